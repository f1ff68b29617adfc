"""Disks that are filled from outside: opened for writing, filled page by page as a page blob is, and closed.

On the real cloud the pages go to an address of Azure Storage with a signature in it; here to a path beside ARM with a
word in it that nobody can guess. What is checked: the signature, whole pages within the disk, at most 4 MiB at once,
and when an image is made of it the VHD's footer. Source: the REST reference of Put Page (version 2024-11-04).
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import DISK
from grafos_emulators.disk_files import DiskFile
from grafos_emulators.http import Request, Response

PREFIX = "/azure/pages/"
PAGE_BYTES = 512
FOOTER_BYTES = 512
MOST_BYTES = 4 << 20
MIB, GIB = 1 << 20, 1 << 30
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def checked_gib(upload_bytes: Any) -> int:
    """The size of a disk that takes so many bytes with a VHD's footer; refuses what is no such number."""
    if not isinstance(upload_bytes, int) or (upload_bytes - FOOTER_BYTES) % MIB or upload_bytes < MIB:
        what = "Upload size must be whole MiB and a VHD footer of 512 bytes."
        raise ArmError(400, "InvalidParameter", what, target="uploadSizeBytes")
    return -(-(upload_bytes - FOOTER_BYTES) // GIB)


def state_of(disk: Resource) -> str | None:
    """``ReadyToUpload`` or ``ActiveUpload``; None for a disk that is not being filled."""
    data = disk.properties.get("creationData") or {}
    if str(data.get("createOption", "")).lower() != "upload" or disk.runtime.get("whole"):
        return None
    return "ActiveUpload" if disk.runtime.get("address") else "ReadyToUpload"


def open_disk(account: AzureAccount, disk: Resource, asked: Mapping[str, Any]) -> dict[str, Any]:
    """``beginGetAccess``: the address at which it takes pages; the same while it is open."""
    if asked.get("access") != "Write" or state_of(disk) is None:
        raise ArmError(409, "OperationNotAllowed", f"Disk {disk.name} cannot be opened for {asked.get('access')}.")
    if "pages" not in disk.runtime:
        disk.runtime["pages"] = DiskFile(int(disk.properties["creationData"]["uploadSizeBytes"]))
    disk.runtime.setdefault("address", uuid.uuid4().hex)
    return {"accessSAS": f"{account.endpoint}{PREFIX}{disk.guid}?sig={disk.runtime['address']}"}


def close_disk(disk: Resource) -> dict[str, Any]:
    """``endGetAccess``: nothing more is written."""
    if disk.runtime.pop("address", None):
        disk.runtime["whole"] = True
    return {}


def take_pages(account: AzureAccount, request: Request) -> Response:
    """Put Page, by the signature alone."""
    query = {name: values[-1] for name, values in parse_qs(request.query).items()}
    with account.world.lock:
        guid = request.path.removeprefix(PREFIX)
        disk = next((each for each in account.store.all() if each.type == DISK and each.guid == guid), None)
        if disk is None or not disk.runtime.get("address") or query.get("sig") != disk.runtime["address"]:
            return _refused(403, "AuthenticationFailed", "Server failed to authenticate the request.")
        pages: DiskFile = disk.runtime["pages"]
    found = _RANGE.fullmatch(request.headers.get("x-ms-range", ""))
    if request.method != "PUT" or query.get("comp") != "page" or request.headers.get("x-ms-page-write") != "update":
        return _refused(400, "UnsupportedHttpVerb", "Only Put Page is imitated.")
    start, end = (int(found[1]), int(found[2]) + 1) if found else (0, 0)
    aligned = start % PAGE_BYTES == 0 and end % PAGE_BYTES == 0
    if not aligned or end - start != len(request.body) or not 0 < end - start <= MOST_BYTES or end > pages.size_bytes:
        return _refused(416, "InvalidPageRange", "The page range specified is invalid.")
    pages.write(start, request.body)
    return Response(201, b"", {"x-ms-version": request.headers.get("x-ms-version", "")})


def check_vhd(disk: Resource) -> DiskFile:
    """The bytes of a disk that was filled; refuses what has no footer of a VHD of fixed size."""
    pages: DiskFile | None = disk.runtime.get("pages")
    if pages is None or not disk.runtime.get("whole"):
        raise ArmError(409, "OperationNotAllowed", f"Disk {disk.name} is not filled: {state_of(disk)}.")
    footer = pages.read(pages.size_bytes - FOOTER_BYTES, FOOTER_BYTES)
    size, kind = struct.unpack(">Q", footer[48:56])[0], struct.unpack(">I", footer[60:64])[0]
    told = struct.unpack(">I", footer[64:68])[0]
    checksum = ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF
    if footer[:8] != b"conectix" or kind != 2 or told != checksum or size != pages.size_bytes - FOOTER_BYTES:
        raise ArmError(
            400, "InvalidVhd", "The specified cookie value in VHD footer indicates that it is not supported."
        )
    return pages


def _refused(status: int, code: str, message: str) -> Response:
    text = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>'
    )
    return Response(status, text.encode(), {"content-type": "application/xml", "x-ms-error-code": code})
