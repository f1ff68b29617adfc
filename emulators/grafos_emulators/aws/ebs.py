"""EBS direct: snapshots written and read in blocks of 512 KiB, each with its SHA-256.

What EBS checks is checked: the size of a block and its place, its checksum, the number of blocks and the checksum over
theirs, and that nothing is written once a snapshot is completed. Its limits on requests are not imitated.
Source: https://docs.aws.amazon.com/ebs/latest/APIReference/ (August 2026's model of botocore)
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.http import Request, Response

BLOCK_BYTES = 512 * 1024
ALGORITHM = "SHA256"
ROUTES = (
    ("POST", re.compile(r"/snapshots"), "StartSnapshot"),
    ("POST", re.compile(r"/snapshots/completion/(?P<SnapshotId>[^/]+)"), "CompleteSnapshot"),
    ("PUT", re.compile(r"/snapshots/(?P<SnapshotId>[^/]+)/blocks/(?P<BlockIndex>\d+)"), "PutSnapshotBlock"),
    ("GET", re.compile(r"/snapshots/(?P<SnapshotId>[^/]+)/blocks/(?P<BlockIndex>\d+)"), "GetSnapshotBlock"),
    ("GET", re.compile(r"/snapshots/(?P<SnapshotId>[^/]+)/blocks"), "ListSnapshotBlocks"),
)
HEADERS = ("x-amz-data-length", "x-amz-checksum", "x-amz-checksum-algorithm", "x-amz-changedblockscount")


def routed(request: Request) -> tuple[str, dict[str, str]]:
    """The action that a request's method and path mean, and the parameters in path and head; no action for none."""
    for method, pattern, action in ROUTES:
        found = pattern.fullmatch(request.path)
        if found and request.method == method:
            head = {name: value for name, value in request.headers.items() if name in HEADERS or "checksum" in name}
            return action, {**found.groupdict(), **head}
    return "", {}


def answer(ec2: Any, call: Any) -> Response:
    """``ec2`` is the account's, whose snapshots these are."""
    actions = {
        "StartSnapshot": _start,
        "PutSnapshotBlock": _put,
        "CompleteSnapshot": _complete,
        "ListSnapshotBlocks": _list,
        "GetSnapshotBlock": _get,
    }
    if call.action not in actions:
        raise not_emulated(f"ebs: {call.request.method} {call.request.path}")
    return actions[call.action](ec2, call)


def _start(ec2: Any, call: Any) -> Response:
    size_gib = call.parameters.get("VolumeSize")
    if not isinstance(size_gib, int) or not 1 <= size_gib <= 65536:
        raise _invalid("VolumeSize must be from 1 to 65536")
    if call.parameters.get("ParentSnapshotId") or call.parameters.get("Encrypted"):
        raise not_emulated("ebs: a snapshot with a parent, or an encrypted one")
    tags = {pair["Key"]: pair["Value"] for pair in call.parameters.get("Tags", ())}
    made = ec2.start_snapshot(call, size_gib, str(call.parameters.get("Description", "")), tags)
    document = {
        "SnapshotId": made.id,
        "OwnerId": made.owner_id,
        "Status": made.status,
        "StartTime": made.start_time.timestamp(),
        "VolumeSize": size_gib,
        "BlockSize": BLOCK_BYTES,
        "Description": made.description,
        "Tags": call.parameters.get("Tags", []),
        "SseType": "none",
    }
    return _json(call, 201, document)


def _put(ec2: Any, call: Any) -> Response:
    snapshot, head, data = ec2.written_snapshot(call), call.request.headers, call.request.body
    if snapshot.sealed:
        raise AwsRefusalError("ValidationException", f"The snapshot {snapshot.id} is not pending: it was completed.")
    index, digest = int(call.parameters["BlockIndex"]), hashlib.sha256(data).digest()
    if len(data) != BLOCK_BYTES or head.get("x-amz-data-length") != str(BLOCK_BYTES):
        raise _invalid(f"a block has {BLOCK_BYTES} bytes")
    if (index + 1) * BLOCK_BYTES > snapshot.disk.size_bytes:
        raise _invalid(f"the block index {index} is beyond the volume")
    if head.get("x-amz-checksum-algorithm") != ALGORITHM or head.get("x-amz-checksum") != _base64(digest):
        raise _invalid("the checksum is not the block's")
    snapshot.disk.write(index * BLOCK_BYTES, data)
    snapshot.digests[index] = digest
    return _json(call, 201, {}, {"x-amz-Checksum": _base64(digest), "x-amz-Checksum-Algorithm": ALGORITHM})


def _complete(ec2: Any, call: Any) -> Response:
    snapshot, head = ec2.written_snapshot(call), call.request.headers
    if snapshot.sealed:
        raise AwsRefusalError("ValidationException", f"The snapshot {snapshot.id} is not pending: it was completed.")
    if head.get("x-amz-changedblockscount") != str(len(snapshot.digests)):
        raise _invalid(f"{len(snapshot.digests)} blocks were put")
    told = head.get("x-amz-checksum")
    if told:
        linear = hashlib.sha256(b"".join(snapshot.digests[index] for index in sorted(snapshot.digests))).digest()
        methods = (head.get("x-amz-checksum-algorithm"), head.get("x-amz-checksum-aggregation-method"))
        if methods != (ALGORITHM, "LINEAR") or told != _base64(linear):
            raise _invalid("the checksum is not that of all blocks")
    ec2.complete_snapshot(snapshot)
    return _json(call, 202, {"Status": snapshot.status})


def _list(ec2: Any, call: Any) -> Response:
    snapshot = _readable(ec2, call)
    blocks = [{"BlockIndex": index, "BlockToken": _token(snapshot, index)} for index in sorted(snapshot.digests)]
    start = int(call.parameters.get("pageToken") or 0)
    end = start + int(call.parameters.get("maxResults") or 1000)
    document: dict[str, Any] = {
        "Blocks": blocks[start:end],
        "ExpiryTime": snapshot.start_time.timestamp() + 7 * 86400,
        "VolumeSize": snapshot.volume_size,
        "BlockSize": BLOCK_BYTES,
    }
    if end < len(blocks):
        document["NextToken"] = str(end)
    return _json(call, 200, document)


def _get(ec2: Any, call: Any) -> Response:
    snapshot, index = _readable(ec2, call), int(call.parameters["BlockIndex"])
    if call.parameters.get("blockToken") != _token(snapshot, index) or index not in snapshot.digests:
        raise _invalid("the block token is not the block's")
    head = {
        "x-amz-Data-Length": str(BLOCK_BYTES),
        "x-amz-Checksum": _base64(snapshot.digests[index]),
        "x-amz-Checksum-Algorithm": ALGORITHM,
        "content-type": "application/octet-stream",
        "x-amzn-requestid": call.request_id,
    }
    return Response(200, snapshot.disk.read(index * BLOCK_BYTES, BLOCK_BYTES), head)


def _readable(ec2: Any, call: Any) -> Any:
    snapshot = ec2.written_snapshot(call)
    if snapshot.status != "completed":
        raise AwsRefusalError("ValidationException", f"The snapshot {snapshot.id} is {snapshot.status}.")
    return snapshot


def _token(snapshot: Any, index: int) -> str:
    return _base64(hashlib.sha256(f"{snapshot.id} {index}".encode()).digest())


def _invalid(why: str) -> AwsRefusalError:
    return AwsRefusalError("ValidationException", why)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _json(call: Any, status: int, document: Mapping[str, Any], head: Mapping[str, str] = {}) -> Response:
    headers = {"content-type": "application/json", "x-amzn-requestid": call.request_id, **head}
    return Response(status, json.dumps(document).encode(), headers)
