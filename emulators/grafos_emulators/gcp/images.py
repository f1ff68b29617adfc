"""Images of the project's own, made from an archive in Cloud Storage: a gzipped tar with ``disk.raw`` in it.

The archive is looked into as Compute Engine does: one member of that name, in the old GNU form, of whole gibibytes.
What it holds is kept with the image, which no longer needs the bucket.
"""

from __future__ import annotations

import io
import tarfile
from typing import Any
from urllib.parse import urlsplit

from grafos_emulators.certificates import fingerprint
from grafos_emulators.disk_files import DiskFile
from grafos_emulators.gcp.calls import ApiCall, Handler, only
from grafos_emulators.gcp.changes import delete, make
from grafos_emulators.gcp.errors import invalid
from grafos_emulators.gcp.labels import checked, setter
from grafos_emulators.gcp.listing import readers
from grafos_emulators.gcp.project import Project, Resource

GIB = 1 << 30
MEMBER = "disk.raw"
STORAGE_HOSTS = ("storage.googleapis.com", "www.googleapis.com")
ARCHITECTURES = ("X86_64", "ARM64")
_FIELDS = frozenset(
    {
        *("labels", "description", "family", "rawDisk", "architecture", "guestOsFeatures", "storageLocations"),
        "shieldedInstanceInitialState",
    }
)
_KEPT = ("description", "family", "architecture", "guestOsFeatures", "shieldedInstanceInitialState")


def handlers(project: Project) -> dict[str, Handler]:
    def view(image: Resource) -> dict[str, Any]:
        status = "DELETING" if image.leaving else "READY" if image.ready else "PENDING"
        return image.body | {"status": status}

    def insert(call: ApiCall) -> dict[str, Any]:
        body = call.body
        only(body, _FIELDS, "an image")
        path = f"global/images/{body['name']}"
        if body.get("architecture") not in ARCHITECTURES:
            raise invalid("resource.architecture", body.get("architecture"), "The architecture is not known.")
        project.refuse_taken(path)
        archive = _archive(project, str(body.get("rawDisk", {}).get("source", "")))
        size_gib = _checked_gib(archive)
        _check_firmware(body.get("shieldedInstanceInitialState") or {})
        kept = {name: body[name] for name in _KEPT if name in body}
        fields = {
            **kept,
            **checked(body.get("labels"), "resource.labels"),
            "sourceType": "RAW",
            "diskSizeGb": str(size_gib),
            "archiveSizeBytes": str(archive.size_bytes),
            "storageLocations": body.get("storageLocations", ["us"]),
        }
        project.image_archives[path] = archive
        return make(project, call, "image", path, fields)

    def remove(call: ApiCall) -> dict[str, Any]:
        return delete(project, call, project.changeable(call.target))

    own: dict[str, Handler] = {"compute.images.insert": insert, "compute.images.delete": remove}
    return readers(project, "images", "image", view) | own | setter(project, "images")


def own_image(project: Project, reference: str) -> Resource | None:
    """The image of the project's own that a full or partial URL names, once it is ready."""
    path = f"global/images/{reference.rpartition('/')[2]}"
    names = {path, f"projects/{project.project_id}/{path}"}
    found = project.resources.get(path) if f"/{reference}".endswith(tuple(f"/{name}" for name in names)) else None
    return found if found is not None and found.ready and not found.leaving else None


def _check_firmware(state: dict[str, Any]) -> None:
    """Certificates, and those in base64."""
    for each in [state.get("pk"), *state.get("keks", []), *state.get("dbs", [])]:
        if each is not None and (each.get("fileType") != "X509" or not fingerprint(str(each.get("content", "")))):
            where = "resource.shieldedInstanceInitialState"
            raise invalid(where, each.get("fileType"), "The file is no certificate of type X509.")


def _archive(project: Project, source: str) -> DiskFile:
    """The object that an address names."""
    parts = urlsplit(source)
    bucket, _, name = parts.path.lstrip("/").partition("/")
    place = project.buckets.get(bucket)
    found = place.objects.get(name) if place is not None and parts.hostname in STORAGE_HOSTS else None
    if found is None:
        raise invalid("resource.rawDisk.source", source, "The referenced object cannot be found.")
    return found.content


class _Reader(io.RawIOBase):
    """A disk file as a stream."""

    def __init__(self, content: DiskFile) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        data = self._content.read(self._at, len(into))
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


def unpacked(archive: DiskFile) -> tarfile.TarFile:
    """The archive, opened for reading from its beginning."""
    return tarfile.open(fileobj=io.BufferedReader(_Reader(archive)), mode="r|gz")


def _checked_gib(archive: DiskFile) -> int:
    where = "resource.rawDisk.source"
    try:
        with unpacked(archive) as members:
            member = members.next()
            if member is None or member.name != MEMBER:
                raise invalid(where, member and member.name, "The archive must hold one file named disk.raw.")
            size, sparse = member.size, member.type == tarfile.GNUTYPE_SPARSE
            if member.type not in {tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE} or members.next() is not None:
                raise invalid(where, member.name, "The archive must hold one file named disk.raw.")
    except (tarfile.TarError, OSError, EOFError) as problem:
        raise invalid(where, str(problem), "The tar archive is not a valid image.") from problem
    if size % GIB or not size:
        raise invalid(where, size, f"The disk must be whole gibibytes{' when unpacked' if sparse else ''}.")
    return size // GIB
