"""The tasklet ABI as data: ``tasklet-profile-v0``, described in ``docs/reference/tasklet-abi.md``.

Names, types, statuses and limits, and nothing that runs. The static check, the runtime and the tests read them here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import msgspec

PROFILE = "tasklet-profile-v0"

# --- limits: sizes in bytes, each with its reason -------------------------------------------------------------------

PAGE_BYTES = 64 * 1024
"""A page of linear memory, fixed by WebAssembly."""
MODULE_BYTES_MAX = 8 * 1024 * 1024
"""A module travels as one blob; compiling time grows with it."""
INPUT_BYTES_MAX = 8 * 1024 * 1024
"""An input travels as one blob."""
RESPONSE_BYTES_MAX = 1024 * 1024
"""A response is for people and programs to read, not for bulk data."""
RESPONSE_DEPTH_MAX = 64
"""Deep enough for data, shallow enough for every reader's stack."""
RESPONSE_DIGITS_MAX = 300
"""Digits in a row: no number that a float cannot hold, no integer that takes long to read."""
OUTPUT_BYTES_MAX = 8 * 1024 * 1024
"""With response and log it fits into one frame of the cell link."""
LOG_BYTES_MAX = 64 * 1024
"""All entries of one run; each counts one byte more than its length."""
LOG_ENTRY_BYTES_MAX = 4 * 1024
"""One entry."""
FAIL_TEXT_BYTES_MAX = 1024
"""The text of a program error, which becomes part of one line."""
MEMORY_LEASES_MAX = 16
"""Slots of leased memory of one run."""
BLOCK_LEASES_MAX = 16
"""Slots of leased blocks of one run."""
BLOCK_BYTES = 512
"""A block, the public SDK's."""
WORD_BYTES = 8
"""What the atomic calls work on: an unsigned number, little-endian, at a multiple of this."""
REGION_CALL_FUEL = 200
"""Of each call on an attached region, beside its bytes. It is an exchange with a daemon, if not with another cell; what
it costs does not depend on where the region is."""
TABLES_MAX = 8
"""More than compilers make (one), few enough to bound what a store holds."""
TABLE_ELEMENTS_MAX = 65_536
"""Of one table, eight bytes each on the host."""
STACK_BYTES_MAX = 512 * 1024
"""Of compiled code: well inside any thread's stack, so that the guest's overflow is a trap and never the host's."""
IMPORTS_MAX = 512
EXPORTS_MAX = 1024
TYPES_MAX = 16_384
"""The counts that the static check will walk through."""

FUEL_DEFAULT = 500_000
FUEL_MAX = 10**12
MEMORY_BYTES_DEFAULT = 32 * 1024 * 1024
MEMORY_BYTES_MIN = PAGE_BYTES
MEMORY_BYTES_MAX = 4 * 1024**3
DEADLINE_S_DEFAULT = 30.0
DEADLINE_S_MIN = 0.001
DEADLINE_S_MAX = 3600.0

# --- statuses: what a host call answers -----------------------------------------------------------------------------

OK = 0
DISCONNECTED = -1
LEASE_EXPIRED = -2
FENCED = -3
CAPACITY_EXCEEDED = -4
UNSUPPORTED = -5
REVOKED = -6
DRAINING = -9
"""No session will come any more: a service finishes what it has and returns."""
INVALID_ARGUMENT = -22
"""Reads as ``IoError(-22)`` in the public SDK, whose table ends at -6; the number is that of EINVAL."""

# --- exports and imports --------------------------------------------------------------------------------------------

ValueType = Literal["i32", "i64", "f32", "f64"]


class Signature(NamedTuple):
    """The type of a function."""

    params: tuple[ValueType, ...] = ()
    results: tuple[ValueType, ...] = ()

    def __str__(self) -> str:
        params = f" (param {' '.join(self.params)})" if self.params else ""
        results = f" (result {' '.join(self.results)})" if self.results else ""
        return f"(func{params}{results})"


MEMORY_EXPORT = "memory"
INIT_EXPORT = "_grafos_tasklet_init"
RUN_EXPORT = "_grafos_tasklet_run"
FINALIZE_EXPORT = "_grafos_tasklet_finalize"

HOOKS: dict[str, Signature] = {
    INIT_EXPORT: Signature(("i32", "i32")),
    RUN_EXPORT: Signature(("i32", "i32"), ("i32",)),
    FINALIZE_EXPORT: Signature(),
}

TASKLET_MODULE = "grafos_tasklet_v0"
MEMORY_MODULE = "fabricbios_fbmu_v0"
BLOCK_MODULE = "fabricbios_fbbu_v0"
SERVICE_MODULE = "grafos_svc_v0"
GPU_MODULE = "fabricbios_gpu_v1"

_RANGE = Signature(("i32", "i32"), ("i32",))

IMPORTS: dict[str, dict[str, Signature]] = {
    TASKLET_MODULE: {
        "buffer_read": Signature(("i32", "i32", "i32", "i32"), ("i32",)),
        "response_write": _RANGE,
        "output_write": _RANGE,
        "log_write": _RANGE,
        "fail": _RANGE,
        "out_of_memory": Signature(("i64",), ("i32",)),
        "clock_ns": Signature((), ("i64",)),
        "fuel_remaining": Signature((), ("i64",)),
    },
    MEMORY_MODULE: {
        "fbmu_size": Signature(("i32",), ("i64",)),
        "fbmu_read": Signature(("i32", "i64", "i32", "i32"), ("i32",)),
        "fbmu_write": Signature(("i32", "i64", "i32", "i32"), ("i32",)),
        "fbmu_attach": Signature(("i32", "i32"), ("i32",)),
        "fbmu_ref": Signature(("i32", "i32", "i32"), ("i32",)),
        "fbmu_compare_exchange": Signature(("i32", "i64", "i64", "i64", "i32"), ("i32",)),
        "fbmu_fetch_add": Signature(("i32", "i64", "i64", "i32"), ("i32",)),
    },
    BLOCK_MODULE: {
        "fbbu_get_num_blocks": Signature(("i32",), ("i64",)),
        "fbbu_read_block": Signature(("i32", "i64", "i32"), ("i32",)),
        "fbbu_write_block": Signature(("i32", "i64", "i32"), ("i32",)),
    },
    SERVICE_MODULE: {
        "svc_listen": Signature(("i32", "i32", "i32"), ("i32",)),
        "svc_wait": Signature(("i32",), ("i32",)),
        "svc_accept": Signature(("i32",), ("i32",)),
        "svc_read": Signature(("i32", "i32", "i32"), ("i32",)),
        "svc_write": Signature(("i32", "i32", "i32"), ("i32",)),
        "svc_close": Signature(("i32",), ("i32",)),
    },
    GPU_MODULE: {},
}
"""Every import by module and name. ``GPU_MODULE`` is open: any name, as ``gpu_signature_allowed`` says."""

GPU_PARAMS_MAX = 16


def gpu_signature_allowed(signature: Signature) -> bool:
    """Whether a function of this type may be imported from ``fabricbios_gpu_v1``, where it answers -5."""
    has_numbers_only = set(signature.params) <= set(get_args(ValueType))
    return has_numbers_only and len(signature.params) <= GPU_PARAMS_MAX and signature.results in {("i32",), ("i64",)}


# --- handles --------------------------------------------------------------------------------------------------------

CONTEXT_HANDLE = 1
INPUT_HANDLE = 2
LISTENER_HANDLE = 1
"""Of the one listener of a service. Listener and sessions share their numbers, and have nothing to do with buffers."""
FIRST_SESSION_HANDLE = 2
SESSION_HANDLE_MAX = 2**31 - 1
"""The largest answer that is no status. Handles are given out in turn, and begin again after this one."""


class ServiceContext(msgspec.Struct, frozen=True):
    """What an instance of a service is told of itself."""

    name: str
    port: int
    max_sessions: int
    instance_id: str
    generation: int


class RunContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a run runs, as the guest sees it; filled in by the cell. The fields come in the order of the page."""

    provider: str
    cell_id: str
    region: str
    run_id: str
    tasklet: str
    module_sha256: str
    service: ServiceContext | None = None

    def to_json(self) -> bytes:
        """The context's bytes: compact JSON, the same for the same fields everywhere."""
        return msgspec.json.encode(self)
