"""The wire is checked once, on entry: what passes has the documented shape, and none of it is boundless."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from desk import Desk

from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler import frame_parts, frames, framing, messages

LONG = "x" * (frame_parts.ID_CHARACTERS_MAX + 1)
MANY = ("x",) * (frame_parts.IDS_LISTED_MAX + 1)


def request(**changed: str) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(Desk().request(), **changed))


@pytest.mark.parametrize("field", ["run_key", "provider", "program", "tasklet", "module_sha256", "input_sha256"])
def test_no_name_and_no_hash_ends_in_a_line_break(field: str) -> None:
    plain = request()
    assert msgspec.json.decode(plain, type=messages.RunRequest) == Desk().request()
    text = getattr(Desk().request(), field)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(request(**{field: text + "\n"}), type=messages.RunRequest)


@pytest.mark.parametrize(
    "frame",
    [
        frames.Hello("cell-1", 1, "1", unacknowledged=MANY),
        frames.Hello("cell-1", 1, "1", fenced=(LONG,)),
        frames.Heartbeat(Resources(), fenced=MANY),
        frames.LeaseGranted("lease", 1, "t" * 4097),
        frames.LeaseRefused("lease", 1, LONG, ""),
        frames.LeaseTornDown(LONG, 1),
        frames.LeaseRevoked(LONG, 1, "torndown"),
        frames.LeaseRevoked("lease", 1, LONG),
        frames.RunStarted(LONG),
        frames.RunEnded("run", LONG, "", 0, "", b"", "", Signed("run", b"", b"")),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_a_frame_of_a_cell_is_bounded_in_each_of_its_parts(frame: Any) -> None:
    """A token goes back down in the frame that starts the run, so an endless one would make that frame too long."""
    body = msgspec.msgpack.encode(frame)
    assert len(body) <= framing.FRAME_BYTES_MAX
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(body, type=frames.UpFrame)


@pytest.mark.parametrize("lease_id", ["", "..", "../cell.db", "/etc/passwd", "0" * 31, "0" * 32 + "\n", "F" * 32])
def test_a_lease_is_never_made_under_an_id_that_is_no_plain_file_name(lease_id: str) -> None:
    """Whoever is in the scheduler's place: leased blocks are a file of that name on the cell's disk."""
    frame = frames.GrantLease("0" * 32, 1, "ada", "block", 512, 1.0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(frame), type=frames.DownFrame) == frame
    body = msgspec.msgpack.encode(msgspec.structs.replace(frame, lease_id=lease_id))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(body, type=frames.DownFrame)
