"""What an image consists of, for programs that look for known faults: a CycloneDX document (JSON, ECMA-424).

    cell-<suite>-<arch>-<digest>.cdx.json

Every package of Debian's, the kernel and the firmware's stub (which are unpacked, so Debian's own list of the packages
in the image does not have them), every wheel, and our own packages. Versions and hashes are the lock's; licences are
what the packages say of themselves inside the image. Nothing in it tells when or where it was made, so two bakes give
the same bytes.
"""

from __future__ import annotations

import datetime as dt
import email
import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from grafos_cellimage import tools
from grafos_cellimage.lock import KERNEL, STUB, SYSTEM, Lock, Package
from grafos_cellimage.plan import SPACE, ImagePlan

SUFFIX = ".cdx.json"
SPEC = "1.6"
"""The newest version that most scanners read."""
TYPES = {SYSTEM: "library", KERNEL: "operating-system", STUB: "firmware"}
UNPACKED_LICENCES = {KERNEL: "GPL-2.0-only WITH Linux-syscall-note", STUB: "LGPL-2.1-or-later"}
"""Of what is unpacked no document is in the image; their projects say so."""
PARTS_SHOWN_MAX = 40
"""Licences told of one package; Debian counts each that any file of its source bears."""
_LICENCE = re.compile(
    r"^License:[ \t]*([A-Za-z0-9][\w.+/-]*(?:,? (?:or|and|with)(?: [\w.+/-]+)+)*)[ \t]*$", re.MULTILINE
)
_COPYRIGHT = re.compile(r"usr/share/doc/([^/]+)/copyright")
_METADATA = re.compile(r"usr/lib/grafos/software/[^/]+\.dist-info/METADATA")
_HEAD_BYTES, _MAGIC = 110, b"070701"

Licences = Mapping[str, tuple[str, ...]]
"""By the names of packages. One of a wheel is an expression of SPDX, of Debian's packages they are Debian's names."""


def document(plan: ImagePlan, lock: Lock, licences: Licences, own: Mapping[str, bytes], sha256: str) -> bytes:
    """The document of the image whose disk has this SHA-256. ``own`` are our packages by their places."""
    name = f"grafos-cell-{plan.name}"
    parts = [
        *(_of_debian(package, licences) for role in TYPES for package in lock.of_role(role)),
        *(_of_python(wheel.name, wheel.version, licences, wheel.sha256) for wheel in lock.wheels),
        *(_own(*each, own) for each in own_versions(own)),
    ]
    parts.sort(key=lambda part: part["bom-ref"])
    whole = {"type": "operating-system", "bom-ref": name, "name": name, "version": sha256[:12], "hashes": _hash(sha256)}
    made_at = dt.datetime.fromtimestamp(lock.epoch_s, dt.UTC)
    told = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": _serial(sha256),
        "version": 1,
        "metadata": {"timestamp": made_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": whole},
        "components": parts,
        "dependencies": [{"ref": name, "dependsOn": [part["bom-ref"] for part in parts]}],
        "compositions": [{"aggregate": "complete", "assemblies": [name]}],
    }
    return _written(told)


def licences_in(layer: Path, scratch: Path) -> dict[str, tuple[str, ...]]:
    """What the packages of a compressed layer say of their licences; who says nothing that a program reads is not
    there."""
    plain = scratch / "layer.newc"
    with plain.open("wb") as file:
        tools.run(("zstd", "--quiet", "--decompress", "--stdout", layer), output=file)
    found: dict[str, tuple[str, ...]] = {}
    try:
        for name, data in _entries(plain.read_bytes()):
            if match := _COPYRIGHT.fullmatch(name):
                text = data.decode("utf-8", "replace")
                names = sorted(set(_LICENCE.findall(text))) if text.lstrip().startswith("Format:") else []
                found |= {match[1]: tuple(names[:PARTS_SHOWN_MAX])} if names else {}
            elif _METADATA.fullmatch(name):
                about = email.message_from_bytes(data)
                said = about.get("License-Expression")
                found |= {_normal(str(about["Name"])): (str(said),)} if said else {}
    finally:
        plain.unlink()
    return found


def own_versions(own: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Our own packages with their versions, by name."""
    found = (email.message_from_bytes(data) for place, data in own.items() if place.endswith(".dist-info/METADATA"))
    return sorted((str(about["Name"]), str(about["Version"])) for about in found)


def tree_sha256(name: str, own: Mapping[str, bytes]) -> str:
    """One of our packages as one digest: over its files' names and their SHA-256, in the order of names."""
    room = name.replace("-", "_")
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {place}\n"
        for place, data in sorted(own.items())
        if place.startswith((f"{room}/", f"{room}-"))
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def of_disk(document: bytes, sha256: str) -> bytes:
    """The same contents on another disk, the one with this SHA-256."""
    told = json.loads(document)
    told["serialNumber"] = _serial(sha256)
    told["metadata"]["component"] |= {"version": sha256[:12], "hashes": _hash(sha256)}
    return _written(told)


def digest(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def count(document: bytes) -> int:
    """How many components a document tells of."""
    return len(json.loads(document)["components"])


def _of_debian(package: Package, licences: Licences) -> dict[str, Any]:
    arch = package.path.rpartition("_")[2].removesuffix(".deb")
    purl = f"pkg:deb/debian/{_in_purl(package.name)}@{_in_purl(package.version)}?arch={arch}"
    said: list[dict[str, Any]]
    if package.role in UNPACKED_LICENCES:
        said = [{"expression": UNPACKED_LICENCES[package.role]}]
    else:
        said = [{"license": {"name": name}} for name in licences.get(package.name, ())]
    part = _part(TYPES[package.role], package.name, package.version, purl, said)
    return part | {"hashes": _hash(package.sha256), "properties": [{"name": "grafos:role", "value": package.role}]}


def _of_python(name: str, version: str, licences: Licences, sha256: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{_in_purl(_normal(name))}@{_in_purl(version)}"
    said = [{"expression": each} for each in licences.get(_normal(name), ())]
    return _part("library", name, version, purl, said) | {"hashes": _hash(sha256)}


def _own(name: str, version: str, own: Mapping[str, bytes]) -> dict[str, Any]:
    """Ours is no file that anybody fetched; what it is stands in a property."""
    part = _part("application", name, version, f"pkg:generic/{name}@{version}", [{"expression": "Apache-2.0"}])
    return part | {"properties": [{"name": "grafos:tree-sha256", "value": tree_sha256(name, own)}]}


def _part(kind: str, name: str, version: str, purl: str, licences: list[dict[str, Any]]) -> dict[str, Any]:
    part = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return part | ({"licenses": licences} if licences else {})


def _hash(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _serial(sha256: str) -> str:
    """Drawn from the disk's digest: the same image has the same one at every bake."""
    return f"urn:uuid:{uuid.uuid5(SPACE, sha256)}"


def _written(told: dict[str, Any]) -> bytes:
    return json.dumps(told, indent=1, sort_keys=True).encode() + b"\n"


def _in_purl(text: str) -> str:
    return quote(text, safe=".-_~")


def _normal(name: str) -> str:
    """As Python's index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the archives that the kernel unpacks, one after the other."""
    at = 0
    while (at := data.find(_MAGIC, at)) >= 0:
        sizes = [int(data[at + 6 + 8 * field : at + 14 + 8 * field], 16) for field in range(13)]
        size, name_size = sizes[6], sizes[11]
        name_end = at + _HEAD_BYTES + name_size
        begin = -(-name_end // 4) * 4
        yield data[at + _HEAD_BYTES : name_end - 1].decode("utf-8", "surrogateescape"), data[begin : begin + size]
        at = -(-(begin + size) // 4) * 4
