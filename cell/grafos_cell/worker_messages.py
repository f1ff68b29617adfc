"""What a pool and its worker processes say to each other, and how it travels.

Each message is one frame: four bytes of length, big-endian, and a msgpack map with the message's ``type``.

    pool                         worker
                                 Ready
    Job(spec)                    CodeWanted, when it does not have the module
    ModuleCode                   Started, when the code is loaded; CodeRefused, when it cannot be
    LeaseAnswer                  LeaseCall, any number of times
    RegionReply                  RegionWish, the same
                                 Done(outcome)

A process that is to compile hears one other message, and is ended after its answer:

    Compile(module)              ModuleCode, or Refused

One that is to be an instance of a service hears ``Serve`` in place of the first ``Job``: ``service_messages``.
"""

from __future__ import annotations

import msgspec

from grafos_cell import abi
from grafos_cell.module import ModuleFacts
from grafos_cell.region_calls import RegionReply, RegionWish
from grafos_cell.run import LeaseAnswer, LeaseCall, RunOutcome, RunSpec
from grafos_cell.service_messages import FromInstance, Serve, ToInstance
from grafos_core.errors import GrafosError

FRAME_BYTES_MAX = abi.MODULE_BYTES_MAX + abi.OUTPUT_BYTES_MAX + 4 * 1024 * 1024
"""The largest message but one: an outcome with whole output, response and a log of three-byte characters, and room to
spare."""
CODE_BYTES_MAX = 128 * 1024 * 1024
"""Compiled code is some ten times its module, and seventy times one that is made for that."""
CODE_FRAME_BYTES_MAX = CODE_BYTES_MAX + 64 * 1024
"""The one that is larger: compiled code with its facts."""
PARENT_VARIABLE = "GRAFOS_WORKER_PARENT"
"""The environment variable with the process id of the pool that started a worker."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker has loaded what it needs. ``unsealed``: why the kernel does not close it off; empty when it does."""

    pid: int
    unsealed: str = ""


class Job(msgspec.Struct, frozen=True, tag="job"):
    """A run; the module is the one that its context names."""

    spec: RunSpec


class CodeWanted(msgspec.Struct, frozen=True, tag="code_wanted"):
    """The worker does not have the job's module."""


class Compile(msgspec.Struct, frozen=True, tag="compile"):
    """A module to check and to compile, by a process that never ran a guest."""

    module: bytes


class ModuleCode(msgspec.Struct, frozen=True, tag="module_code"):
    """What a module is, without its imports and exports, and its compiled code."""

    facts: ModuleFacts
    code: bytes


class CodeRefused(msgspec.Struct, frozen=True, tag="code_refused"):
    """The engine does not take the code: it is not for this library, configuration or processor."""

    why: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The module is none that may run; code and text of the error."""

    code: str
    what: str


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The code is loaded, and the run's own time begins."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    outcome: RunOutcome


Down = Job | ModuleCode | Compile | LeaseAnswer | RegionReply | Serve | ToInstance
Up = Ready | CodeWanted | CodeRefused | Started | LeaseCall | RegionWish | Done | ModuleCode | Refused | FromInstance

decode_down = msgspec.msgpack.Decoder(Down).decode
decode_up = msgspec.msgpack.Decoder(Up).decode


def frame(message: Down | Up) -> bytes:
    """The message as it travels."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


def frame_length(head: bytes, bytes_max: int = FRAME_BYTES_MAX) -> int:
    """The length that a frame's first four bytes say; ``body_too_large`` over ``bytes_max``."""
    length = int.from_bytes(head, "big")
    if length > bytes_max:
        raise GrafosError("body_too_large", f"a frame of {length} bytes between pool and worker")
    return length
