"""The way of a disk into Compute Engine: a bucket of our own, and the archive in it, until the image is made.

Cloud Storage is asked by its JSON interface over the session that the price list is asked by; its own SDK would be one
more package for seven calls. The archive is sent by a resumable upload: its address is a secret that opens nothing but
that upload, for a week. Source: https://cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, CloudError, Desired, Found, Kind, Ref, State
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.describe import unix_seconds
from grafos_connectors.gcp.errors import says_already_exists, says_not_found
from grafos_connectors.gcp.tarball import Archive, archive_of
from grafos_connectors.uploads import FILLED, NO, YES, Disk, Filled, Sent, Told

STORAGE_KINDS = (Kind.BUCKET, Kind.OBJECT)
OBJECT = "disk.tar.gz"
NAME_PREFIX = "grafos-"
CHUNK_BYTES = 8 << 20  # a multiple of 256 KiB; what Google advises for a good connection
INCOMPLETE = 308
GONE = (404, 410)
UNASKED = ("cloud_denied",)
"""With these answers nobody may look at buckets, or Cloud Storage is not switched on: then nothing of ours is there."""


def bucket_id(name: str) -> str:
    return f"b/{name}"


def create_bucket(calls: GcpCalls, desired: Desired) -> None:
    """One insert: private, in one region, and what is deleted is gone at once. What has the name already is taken for
    its effect when it is ours."""
    body = {
        "name": desired.name,
        "location": desired.region.upper(),
        "labels": labels.labels(desired.tags),
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},  # else what is deleted is kept, and billed, for a week
    }
    try:
        calls.send("POST", "storage/v1/b", query={"project": calls.project}, body=body)
    except CloudError as refusal:
        if not says_already_exists(refusal) and refusal.code != "cloud_conflict":
            raise
        there = observe(calls, Ref(desired.key, Kind.BUCKET, bucket_id(desired.name), desired.region))
        if there is None or there.ref.key != desired.key or there.tags.get(TAG_FABRIC) != desired.tags[TAG_FABRIC]:
            refusal.code = "cloud_conflict"
            raise


def observe(calls: GcpCalls, ref: Ref) -> Found | None:
    """A bucket with whether the archive is in it, or the archive."""
    bucket = _read(calls, f"storage/v1/b/{_bucket(ref)}")
    if bucket is None:
        return None
    archive = _read(calls, f"storage/v1/b/{_bucket(ref)}/o/{quote(OBJECT, safe='')}")
    if ref.kind is Kind.BUCKET:
        return _found(bucket, archive)
    return _found_object(archive) if archive is not None else None


def delete(calls: GcpCalls, ref: Ref) -> bool:
    """One delete; whether there was something to delete."""
    path = f"storage/v1/b/{_bucket(ref)}"
    if ref.kind is Kind.OBJECT:
        path += f"/o/{quote(OBJECT, safe='')}"
    try:
        calls.send("DELETE", path)
    except CloudError as refusal:
        if says_not_found(refusal):
            return False
        if refusal.cloud_code == "conflict":  # "The bucket you tried to delete is not empty."
            refusal.code = "cloud_in_use"
        raise
    return True


def list_buckets(calls: GcpCalls, fabric: str) -> Iterator[list[Found]]:
    """Those of the fabric and what is in them, page by page."""
    query = {"project": calls.project, "prefix": NAME_PREFIX}
    while True:
        try:
            page = calls.send("GET", "storage/v1/b", query=query, changing=False).json()
        except CloudError as refusal:
            if refusal.code in UNASKED:
                return
            raise
        ours = [item for item in page.get("items", ()) if labels.ours(item.get("labels", {})).get(TAG_FABRIC) == fabric]
        yield [found for item in ours for found in _with_object(calls, item)]
        if not page.get("nextPageToken"):
            return
        query["pageToken"] = page["nextPageToken"]


def fill_bucket(
    calls: GcpCalls, ref: Ref, disk: Disk, sent: Sent, told: Told, chunk_bytes: int = CHUNK_BYTES
) -> Filled:
    """The archive by a resumable upload, which a later process goes on with; Cloud Storage checks its MD5 at the end,
    and shows nothing before."""
    archive = archive_of(disk, sent.beside(".tar.gz"))
    session, start = sent.note, 0
    if session:
        start = _progress(calls, session, archive)
    if not session or start < 0:
        session, start = _begun(calls, ref, archive), 0
        sent.keep(session)
    kept, sent_bytes = start, 0
    with archive.path.open("rb") as file:
        while start < archive.size_bytes:
            file.seek(start)
            chunk = file.read(chunk_bytes)
            came = _put(calls, session, chunk, f"bytes {start}-{start + len(chunk) - 1}/{archive.size_bytes}")
            sent_bytes += len(chunk)
            start = archive.size_bytes if came.ok and came.status_code != INCOMPLETE else _after(came)
            told(-(-start // chunk_bytes), sent_bytes)
    parts = -(-sent_bytes // chunk_bytes)
    return Filled(parts, sent_bytes, -(-kept // chunk_bytes), max(0, disk.size_bytes - archive.size_bytes))


def _begun(calls: GcpCalls, ref: Ref, archive: Archive) -> str:
    """The address of a new upload, which ends only if nothing has the name by then."""
    bucket = _read(calls, f"storage/v1/b/{_bucket(ref)}")
    tags = labels.ours((bucket or {}).get("labels", {}))
    body = {"contentType": "application/gzip", "md5Hash": archive.md5, "metadata": labels.labels(tags)}
    came = calls.send(
        "POST",
        f"upload/storage/v1/b/{_bucket(ref)}/o",
        query={"uploadType": "resumable", "name": OBJECT, "ifGenerationMatch": "0"},
        body=body,
        headers={"X-Upload-Content-Length": str(archive.size_bytes)},
    )
    address = str(came.headers.get("Location", ""))
    calls.check_storage_address(address)
    return address


def _progress(calls: GcpCalls, session: str, archive: Archive) -> int:
    """How many bytes arrived; -1 when the upload is not known any more."""
    calls.check_storage_address(session)
    came = _put(calls, session, b"", f"bytes */{archive.size_bytes}", also=GONE)
    if came.status_code in GONE:
        return -1
    return _after(came) if came.status_code == INCOMPLETE else archive.size_bytes


def _put(calls: GcpCalls, session: str, data: bytes, content_range: str, also: tuple[int, ...] = ()) -> Any:
    headers = {"Content-Range": content_range}
    return calls.send("PUT", session, data=data, headers=headers, accepted=(INCOMPLETE, *also))


def _after(came: Any) -> int:
    """The next byte that is wanted, from ``Range: bytes=0-N``; 0 when none arrived."""
    told = str(came.headers.get("Range", ""))
    return int(told.rpartition("-")[2]) + 1 if "-" in told else 0


def _with_object(calls: GcpCalls, bucket: Mapping[str, Any]) -> Iterator[Found]:
    archive = _read(calls, f"storage/v1/b/{bucket['name']}/o/{quote(OBJECT, safe='')}")
    yield _found(bucket, archive)
    if archive is not None:
        yield _found_object(archive, str(bucket.get("location", "")).lower())


def _found(bucket: Mapping[str, Any], archive: Mapping[str, Any] | None) -> Found:
    ours = labels.ours(bucket.get("labels", {}))
    region = str(bucket.get("location", "")).lower()
    made_at = unix_seconds(str(bucket.get("timeCreated", "")).replace("Z", "+00:00"))
    attributes = {"name": bucket["name"], FILLED: NO if archive is None else YES, "made_at": made_at}
    return Found(
        ref=Ref(ours.get(TAG_KEY, ""), Kind.BUCKET, bucket_id(bucket["name"]), region),
        state=State.READY,
        tags=ours,
        attributes={name: value for name, value in attributes.items() if value},
    )


def _found_object(archive: Mapping[str, Any], region: str = "") -> Found:
    ours = labels.ours(archive.get("metadata", {}))
    bucket = str(archive["bucket"])
    return Found(
        ref=Ref(ours.get(TAG_KEY, ""), Kind.OBJECT, f"{bucket_id(bucket)}/o/{OBJECT}", region),
        state=State.READY,
        tags=ours,
        attributes={"name": bucket, "carrier": bucket_id(bucket), "size_bytes": str(archive.get("size", ""))},
        billable=True,
    )


def _bucket(ref: Ref) -> str:
    match ref.id.split("/"):
        case ["b", name] if name and ref.kind is Kind.BUCKET:
            return name
        case ["b", name, "o", _] if name and ref.kind is Kind.OBJECT:
            return name
    raise CloudError("cloud_invalid", f"{ref.id!r} is no id of a {ref.kind.value} on Google Cloud.", where="gcp")


def _read(calls: GcpCalls, path: str) -> Mapping[str, Any] | None:
    try:
        document: Mapping[str, Any] = json.loads(calls.send("GET", path, changing=False).content)
    except CloudError as refusal:
        if says_not_found(refusal):
            return None
        raise
    return document
