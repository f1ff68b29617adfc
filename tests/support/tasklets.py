"""Tasklets for tests: small modules from text, and what is given to a run of them."""

from __future__ import annotations

import hashlib

import call_layers

from grafos_cell import abi
from grafos_cell.conformance.wat import import_lines, tasklet, text_at
from grafos_cell.run import LeaseDesk, RunOutcome, RunSpec, no_desk
from grafos_cell.runtime import run_module
from grafos_core.clock import SystemClock

__all__ = ["context_of", "import_lines", "run_tasklet", "spec_of", "tasklet", "text_at"]


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
