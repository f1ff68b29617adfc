"""Cloud Storage's JSON interface, as far as an image needs it on its way: buckets, and one resumable upload of each.

What Google checks is checked: a name's form and that nobody has it, the order and size of chunks, the MD5 that was
announced, and that a bucket is empty that is to be deleted. A chunk that is not the last is a multiple of 256 KiB.
Source: https://cloud.google.com/storage/docs/json_api/v1 and .../performing-resumable-uploads
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from grafos_emulators.disk_files import DiskFile
from grafos_emulators.gcp.buckets import Bucket, StoredObject, Upload
from grafos_emulators.gcp.errors import JSON, GceRefusal, bad_request, forbidden, not_emulated, required
from grafos_emulators.gcp.project import Project
from grafos_emulators.http import Request, Response

SERVICE = "storage"
PREFIX = "/gcp/storage/"
CHUNK_UNIT = 256 * 1024
LARGEST_BYTES = 5 << 40  # Cloud Storage's largest object
READ_BYTES = 1 << 20
KEPT = frozenset({"labels", "iamConfiguration", "softDeletePolicy"})  # of what a bucket is asked to be
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
ROUTES = (
    ("POST", re.compile(r"storage/v1/b"), "buckets.insert"),
    ("GET", re.compile(r"storage/v1/b"), "buckets.list"),
    ("GET", re.compile(r"storage/v1/b/([^/]+)"), "buckets.get"),
    ("DELETE", re.compile(r"storage/v1/b/([^/]+)"), "buckets.delete"),
    ("GET", re.compile(r"storage/v1/b/([^/]+)/o/([^/]+)"), "objects.get"),
    ("DELETE", re.compile(r"storage/v1/b/([^/]+)/o/([^/]+)"), "objects.delete"),
    ("POST", re.compile(r"upload/storage/v1/b/([^/]+)/o"), "objects.insert"),
    ("PUT", re.compile(r"upload/storage/v1/b/([^/]+)/o"), "objects.upload"),
)


def operation_of(request: Request) -> str:
    """The method that a request means."""
    path = request.path.removeprefix(PREFIX)
    found = (name for verb, pattern, name in ROUTES if verb == request.method and pattern.fullmatch(path))
    return next(found, f"{request.method} {path}")


def answer(project: Project, request: Request, operation: str) -> Response:
    """The answer, under the world's lock; ``GceRefusal`` in Google's words."""
    path = request.path.removeprefix(PREFIX)
    route = next((pattern.fullmatch(path) for _, pattern, name in ROUTES if name == operation), None)
    if route is None:
        raise not_emulated(f"storage: {operation}")
    collection, verb = operation.split(".")
    permission = f"storage.{collection}.{'create' if verb in ('insert', 'upload') else verb}"
    if permission in project.denied:
        raise forbidden(permission, path, project.project_id)
    names = [unquote(each) for each in route.groups()]
    query = {name: values[-1] for name, values in parse_qs(request.query).items()}
    with project.world.lock:
        told: Response = _Storage(project, request, query).answers[operation](*names)
        return told


class _Storage:
    """One request to the project's buckets."""

    def __init__(self, project: Project, request: Request, query: dict[str, str]) -> None:
        self._project, self._request, self._query = project, request, query
        self.answers: dict[str, Any] = {
            "buckets.insert": self._insert_bucket,
            "buckets.list": self._list_buckets,
            "buckets.get": lambda name: _json(self._bucket(name).body),
            "buckets.delete": self._delete_bucket,
            "objects.get": lambda bucket, name: _json(self._object(bucket, name).body),
            "objects.delete": self._delete_object,
            "objects.insert": self._begin_upload,
            "objects.upload": self._take_chunk,
        }

    def _insert_bucket(self) -> Response:
        if self._query.get("project") not in {self._project.project_id, self._project.number}:
            raise required("project")
        asked = _document(self._request.body)
        name = str(asked.get("name", ""))
        if not _NAME.fullmatch(name) or name.startswith("goog"):
            raise bad_request(f"Invalid bucket name: '{name}'", "invalid")
        if name in self._project.buckets:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise GceRefusal(409, "conflict", message)
        region = str(asked.get("location", "US")).lower()
        kept: dict[str, Any] = {each: asked[each] for each in KEPT if each in asked}
        body: dict[str, Any] = {
            "kind": "storage#bucket",
            "id": name,
            "name": name,
            "projectNumber": self._project.number,
            "location": region.upper(),
            "locationType": "region",
            "storageClass": "STANDARD",
            "timeCreated": self._project.stamp(),
            **kept,
        }
        self._project.buckets[name] = Bucket(region, body)
        return _json(body)

    def _list_buckets(self) -> Response:
        prefix = self._query.get("prefix", "")
        items = [each.body for name, each in sorted(self._project.buckets.items()) if name.startswith(prefix)]
        body: dict[str, Any] = {"kind": "storage#buckets"}
        return _json(body | ({"items": items} if items else {}))

    def _delete_bucket(self, name: str) -> Response:
        if self._bucket(name).objects:
            raise GceRefusal(409, "conflict", "The bucket you tried to delete is not empty.")
        del self._project.buckets[name]
        return Response(204)

    def _delete_object(self, bucket: str, name: str) -> Response:
        self._object(bucket, name)
        del self._project.buckets[bucket].objects[name]
        return Response(204)

    def _begin_upload(self, bucket: str) -> Response:
        if self._query.get("uploadType") != "resumable":
            raise not_emulated("storage: an upload that is not resumable")
        place, metadata = self._bucket(bucket), _document(self._request.body)
        name = self._query.get("name") or str(metadata.get("name", ""))
        size = self._request.headers.get("x-upload-content-length", "")
        if not name or not size.isdecimal() or int(size) > LARGEST_BYTES:
            raise required("name and X-Upload-Content-Length")
        if self._query.get("ifGenerationMatch") == "0" and name in place.objects:
            raise _condition_not_met()
        upload_id = uuid.uuid4().hex
        place.uploads[upload_id] = Upload(name, metadata, DiskFile(int(size)))
        path = f"upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={name}&upload_id={upload_id}"
        return Response(200, b"", {"Location": f"{self._project.endpoint}{PREFIX}{path}"})

    def _take_chunk(self, bucket: str) -> Response:
        place = self._bucket(bucket)
        upload_id = self._query.get("upload_id", "")
        upload = place.uploads.get(upload_id)
        if upload is None:
            raise GceRefusal(404, "notFound", "No such upload.")
        found, data = _RANGE.fullmatch(self._request.headers.get("content-range", "")), self._request.body
        if found is None or int(found[3]) != upload.content.size_bytes:
            raise bad_request("Invalid Content-Range.", "badContent")
        if found[1] is not None:
            start, end = int(found[1]), int(found[2]) + 1
            last = end == upload.content.size_bytes
            if start != upload.arrived or end - start != len(data) or (len(data) % CHUNK_UNIT and not last):
                raise bad_request("Invalid Content-Range.", "badContent")
            upload.content.write(start, data)
            upload.arrived = end
        if upload.arrived < upload.content.size_bytes:
            head = {"Range": f"bytes=0-{upload.arrived - 1}"} if upload.arrived else {}
            return Response(308, b"", head)
        del place.uploads[upload_id]
        return self._finished(bucket, place, upload)

    def _finished(self, bucket: str, place: Bucket, upload: Upload) -> Response:
        digest = hashlib.md5(usedforsecurity=False)
        for offset in range(0, upload.content.size_bytes, READ_BYTES):
            digest.update(upload.content.read(offset, READ_BYTES))
        md5 = base64.b64encode(digest.digest()).decode()
        if upload.metadata.get("md5Hash", md5) != md5:
            raise bad_request("The MD5 hash you specified does not match the calculated MD5 hash.", "invalid")
        if upload.name in place.objects:
            raise _condition_not_met()
        body = {
            "kind": "storage#object",
            "name": upload.name,
            "bucket": bucket,
            "size": str(upload.content.size_bytes),
            "md5Hash": md5,
            "timeCreated": self._project.stamp(),
            "contentType": upload.metadata.get("contentType", "application/octet-stream"),
            "metadata": upload.metadata.get("metadata", {}),
        }
        place.objects[upload.name] = StoredObject(body, upload.content)
        return _json(body)

    def _bucket(self, name: str) -> Bucket:
        found = self._project.buckets.get(name)
        if found is None:
            raise GceRefusal(404, "notFound", "The specified bucket does not exist.")
        return found

    def _object(self, bucket: str, name: str) -> StoredObject:
        found = self._bucket(bucket).objects.get(name)
        if found is None:
            raise GceRefusal(404, "notFound", f"No such object: {bucket}/{name}")
        return found


def _condition_not_met() -> GceRefusal:
    return GceRefusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise bad_request(f"Parse Error: {problem}", "parseError") from problem
    return document if isinstance(document, dict) else {}


def _json(body: dict[str, Any]) -> Response:
    return Response(200, json.dumps(body).encode(), JSON)
