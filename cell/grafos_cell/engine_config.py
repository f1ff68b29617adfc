"""The engine's one configuration: the features of the profile and nothing else, and where instances live.

It is data, so that compiled code can be kept under its digest. Some combinations of switches abort the whole process; a
test tries this one in a process of its own.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from grafos_cell import abi

if TYPE_CHECKING:
    import wasmtime

SWITCHES: dict[str, bool | int] = {
    "consume_fuel": True,
    "epoch_interruption": True,
    "cranelift_nan_canonicalization": True,
    "max_wasm_stack": abi.STACK_BYTES_MAX,
    "parallel_compilation": False,  # compiling is one process's work, and its threads are counted
    "gc_support": False,  # also refuses externref; reference types stay on, compilers use their encoding
    "shared_memory": False,
    "wasm_component_model": False,
    "wasm_custom_page_sizes": False,
    "wasm_exceptions": False,
    "wasm_function_references": False,
    "wasm_gc": False,
    "wasm_memory64": False,
    "wasm_multi_memory": False,
    "wasm_relaxed_simd": False,
    "wasm_simd": False,
    "wasm_stack_switching": False,
    "wasm_tail_call": False,
    "wasm_threads": False,
    "wasm_wide_arithmetic": False,
}

INSTANCE_BYTES_MAX = 8 * 1024 * 1024
"""What an instance holds beside memory and tables, 16 bytes a global and some more a function that is referred to: many
times what large programs have, and a bound for those that declare half a million globals."""
MEMORY_KEPT_BYTES = 256 * 1024
"""Of a memory's beginning: zeroed for the next run by writing, which costs less than giving the pages back."""
TABLE_KEPT_BYTES = 64 * 1024
"""As ``MEMORY_KEPT_BYTES``."""

POOL: dict[str, int] = {
    # One process runs one guest at a time, so the pool has one place, used again and again.
    "total_core_instances": 1,
    "total_memories": 1,
    "total_tables": abi.TABLES_MAX,
    "total_stacks": 0,  # of fibers, which nobody has here: a thousand would use up what compiling may take
    "max_memories_per_module": 1,
    "max_tables_per_module": abi.TABLES_MAX,
    "max_core_instance_size": INSTANCE_BYTES_MAX,
    "max_memory_size": abi.MEMORY_BYTES_MAX,  # addresses alone; a run's limit decides what may be used of them
    "table_elements": abi.TABLE_ELEMENTS_MAX,
    "linear_memory_keep_resident": MEMORY_KEPT_BYTES,
    "table_keep_resident": TABLE_KEPT_BYTES,
}


def configuration() -> wasmtime.Config:
    """A new configuration; an engine takes it over."""
    import wasmtime
    from wasmtime import _bindings as c_api  # the daemon asks for the digest alone

    config = wasmtime.Config()
    for name, value in SWITCHES.items():
        setattr(config, name, value)
    # A memory never moves: where host calls know it to be, it is, for the life of its instance.
    c_api.wasmtime_config_memory_may_move_set(config.ptr(), False)
    pool = c_api.wasmtime_pooling_allocation_config_new()
    try:
        for name, value in POOL.items():
            getattr(c_api, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
        c_api.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    finally:
        c_api.wasmtime_pooling_allocation_config_delete(pool)
    return config


def digest() -> str:
    """What compiled code depends on beside its module: library, processor, and this room's own sources, in which the
    configuration stands, the rules that let a module in, and the shape in which its code is kept."""
    parts = (metadata.version("wasmtime"), _processor(), _sources())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _sources() -> list[tuple[str, str]]:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]


def _processor() -> tuple[str, str, str]:
    """Code is compiled for the features of this very processor; one that was moved to another may not be able to."""
    features = ""
    if Path("/proc/cpuinfo").exists():  # elsewhere a processor stays with its disk
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return sys.platform, platform.machine(), features
