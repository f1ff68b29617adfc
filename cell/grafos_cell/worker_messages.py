"""What a pool and its worker processes say to each other, and how it travels.

Each message is one frame: four bytes of length, big-endian, and a msgpack map with the message's ``type``.

    pool                         worker
                                 Ready
    Job(spec)                    ModuleWanted, when it does not have the module
    ModuleBytes                  Started, when the module is compiled
                                 Done(outcome)
"""

from __future__ import annotations

import msgspec

from grafos_cell import abi
from grafos_cell.run import RunOutcome, RunSpec
from grafos_core.errors import GrafosError

FRAME_BYTES_MAX = abi.MODULE_BYTES_MAX + abi.OUTPUT_BYTES_MAX + 4 * 1024 * 1024
"""The largest message: an outcome with whole output, response and a log of three-byte characters, and room to spare."""
PARENT_VARIABLE = "GRAFOS_WORKER_PARENT"
"""The environment variable with the process id of the pool that started a worker."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker has imported what it needs."""

    pid: int


class Job(msgspec.Struct, frozen=True, tag="job"):
    """A run; the module is the one that its context names."""

    spec: RunSpec


class ModuleWanted(msgspec.Struct, frozen=True, tag="module_wanted"):
    """The worker does not have the job's module."""


class ModuleBytes(msgspec.Struct, frozen=True, tag="module_bytes"):
    data: bytes


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The module is compiled, and the run's own time begins."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    outcome: RunOutcome


Down = Job | ModuleBytes
Up = Ready | ModuleWanted | Started | Done

decode_down = msgspec.msgpack.Decoder(Down).decode
decode_up = msgspec.msgpack.Decoder(Up).decode


def frame(message: Down | Up) -> bytes:
    """The message as it travels."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


def frame_length(head: bytes) -> int:
    """The length that a frame's first four bytes say; ``body_too_large`` over ``FRAME_BYTES_MAX``."""
    length = int.from_bytes(head, "big")
    if length > FRAME_BYTES_MAX:
        raise GrafosError("body_too_large", f"a frame of {length} bytes between pool and worker")
    return length
