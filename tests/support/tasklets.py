"""Tasklets for tests: small modules from text, and what is given to a run of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import call_layers
from wasmtime import wat2wasm

from grafos_cell import abi
from grafos_cell.run import LeaseDesk, RunOutcome, RunSpec, no_desk
from grafos_cell.runtime import run_module
from grafos_core.clock import SystemClock


def import_lines(modules: Mapping[str, Mapping[str, abi.Signature]] = abi.IMPORTS) -> str:
    """An import of every function of these modules, each under its own name."""
    return "\n".join(
        f'(import "{module}" "{name}" {str(signature).replace("(func", f"(func ${name}", 1)})'
        for module, functions in modules.items()
        for name, signature in functions.items()
    )


def tasklet(
    run: str = "i32.const 0",
    *,
    init: str = "",
    finalize: str = "",
    top: str = "",
    memory: str = "1",
    imports: str | None = None,
    run_locals: str = "",
) -> bytes:
    """A module of the profile whose hooks have these bodies; `$handle` and `$length` are their parameters."""
    return wat2wasm(
        f"""(module
        {import_lines() if imports is None else imports}
        (memory (export "memory") {memory})
        {top}
        (func (export "_grafos_tasklet_init") (param $handle i32) (param $length i32) {init})
        (func (export "_grafos_tasklet_run") (param $handle i32) (param $length i32) (result i32) {run_locals} {run})
        (func (export "_grafos_tasklet_finalize") {finalize}))"""
    )


def context_of(module: bytes) -> abi.RunContext:
    return abi.RunContext(
        "local",
        "local-7d2x0c",
        "here",
        "run-0a1b2c-3d4e5f-aaaaaaaaaaaaaaaa",
        "probe",
        hashlib.sha256(module).hexdigest(),
    )


def spec_of(module: bytes, data: bytes | None = b"", **changes: object) -> RunSpec:
    """A spec with the defaults of the profile, but for the changes."""
    return RunSpec(context_of(module), data, **changes)  # type: ignore[arg-type]


def run_tasklet(module: bytes, data: bytes | None = b"", desk: LeaseDesk = no_desk, **changes: object) -> RunOutcome:
    """Runs the module in this process, on the call layer under test."""
    return run_module(module, spec_of(module, data, **changes), SystemClock(), call_layers.new_engine(), desk)


def text_at(offset: int, text: str | bytes) -> str:
    """A data segment with these bytes at this offset."""
    raw = text.encode() if isinstance(text, str) else text
    escaped = "".join(rf"\{byte:02x}" for byte in raw)
    return f'(data (i32.const {offset}) "{escaped}")'
