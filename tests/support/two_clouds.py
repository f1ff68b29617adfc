"""Small programs on a shared region, and an orchestrator with two cells of different providers to run them on.

Every input begins with the lease reference: its length as two bytes, little-endian, then its text.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from agents import AgentOf, until
from orchestrator import Orchestrator
from standalone import Identity
from tasklets import tasklet

from grafos_core.ids import sha256_of
from grafos_scheduler import messages
from grafos_scheduler.region_messages import RegionRequest, RegionView

ATTACH = """
    (drop (call $buffer_read (i32.const 2) (i32.const 0) (i32.const 1024) (i32.const 60000)))
    (local.set $slot (call $fbmu_attach (i32.const 1026) (i32.load16_u (i32.const 1024))))
    (if (i32.lt_s (local.get $slot) (i32.const 0)) (then (return (i32.sub (i32.const 0) (local.get $slot)))))
    (local.set $at (i32.add (i32.const 1026) (i32.load16_u (i32.const 1024))))
    (local.set $end (i32.add (i32.const 1024) (local.get $length)))
"""
"""Attaches, or returns the status made positive. After it the text that follows the reference is at $at to $end."""
LOCALS = "(local $slot i32) (local $at i32) (local $end i32) (local $status i32)"


def of_region(run: str) -> bytes:
    return tasklet(ATTACH + run, run_locals=LOCALS)


def or_return(call: str) -> str:
    """A call whose status, if it is none of success, ends the run as what it returns, made positive."""
    return f"""(local.set $status {call})
        (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (i32.sub (i32.const 0) (local.get $status)))))"""


COUNT = of_region(f"""
    (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        ;; a word is counted at its first letter: under 0, and under that letter's own word
        (if (i32.and (i32.ge_u (i32.load8_u (local.get $at)) (i32.const 97))
                     (i32.eq (i32.load8_u (i32.sub (local.get $at) (i32.const 1))) (i32.const 32)))
          (then
            {or_return("(call $fbmu_fetch_add (local.get $slot) (i64.const 0) (i64.const 1) (i32.const 0))")}
            {
    or_return(
        "(call $fbmu_fetch_add (local.get $slot) (i64.extend_i32_u (i32.mul (i32.const 8) "
        "(i32.sub (i32.load8_u (local.get $at)) (i32.const 96)))) (i64.const 1) (i32.const 0))"
    )
}))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i32.const 0)
""")
"""Counts the words of the text, each of which has a space before it, in all and by first letter."""

REPORT = of_region(f"""
    {or_return("(call $fbmu_read (local.get $slot) (i64.const 0) (i32.const 0) (i32.const 216))")}
    {or_return("(call $output_write (i32.const 0) (i32.const 216))")}
    (i32.const 0)
""")
"""Gives the 27 counts."""

REFER = of_region(f"""
    {or_return("(call $fbmu_ref (local.get $slot) (i32.const 0) (i32.const 512))")}
    {or_return("(call $output_write (i32.const 0) (local.get $status))")}
    (i32.const 0)
""")
"""Gives the reference of what it is attached to."""

SPIN = of_region("""
    (block $done (loop $next
        (local.set $status (call $fbmu_read (local.get $slot) (i64.const 0) (i32.const 0) (i32.const 8)))
        (br_if $done (i32.lt_s (local.get $status) (i32.const 0)))
        (br $next)))
    (i32.sub (i32.const 0) (local.get $status))
""")
"""Reads until that is refused, and returns the status made positive."""


def with_ref(ref: str, text: str = "") -> bytes:
    return len(ref).to_bytes(2, "little") + ref.encode() + text.encode()


class Fabric:
    """The orchestrator, its cells, and one tenant."""

    def __init__(self, orchestrator: Orchestrator, operator: Identity) -> None:
        self.orchestrator, self.operator = orchestrator, operator
        self.tenant = orchestrator.employ(operator, "acme", budget_cents=1_000_000)
        self.machines: dict[str, AgentOf] = {}

    def join(self, cell_id: str, provider: str) -> AgentOf:
        machine = AgentOf(self.orchestrator, cell_id)
        machine.given(self.orchestrator.bootstrap(self.operator, cell_id, provider))
        self.machines[cell_id] = machine
        machine.linked(provider=provider)
        until(lambda: (view := machine.view(self.operator)) is not None and view.ready, "readiness")
        return machine

    def lease(self, provider: str, size_bytes: int = 4096, ttl_s: float = 300.0) -> RegionView:
        """A region that is held."""
        with self.orchestrator.client(self.tenant) as client:
            region = client.create_region(RegionRequest(secrets.token_hex(16), provider, size_bytes, ttl_s))
            until(lambda: client.region(region.lease_id).state == "held", "the region")
            return client.region(region.lease_id)

    def start(self, provider: str, module: bytes, data: bytes, tenant: Identity | None = None, **asked: object) -> str:
        """Begins a run; gives its id."""
        with self.orchestrator.client(tenant or self.tenant) as client:
            client.put_blob(module)
            client.put_blob(data)
            plain = messages.RunRequest(
                secrets.token_hex(16), provider, "count", "main", sha256_of(module), sha256_of(data), fuel=10**9
            )
            return client.start_run(msgspec.structs.replace(plain, **asked)).run_id

    def ended(self, run_id: str, tenant: Identity | None = None) -> tuple[messages.RunView, messages.Artifacts]:
        """The run once it has ended, and what it left."""
        end = time.monotonic() + 60
        with self.orchestrator.client(tenant or self.tenant) as client:
            while not (view := client.run(run_id, wait_s=5.0)).ended_at:
                assert time.monotonic() < end, view
            return view, client.artifacts(run_id)

    def run(self, provider: str, module: bytes, data: bytes, **asked: Any) -> messages.Artifacts:
        """A run that must finish."""
        view, left = self.ended(self.start(provider, module, data, **asked))
        assert view.state == "finished", (view, left.log)
        return left


@contextmanager
def two_clouds(folder: Path) -> Iterator[Fabric]:
    """An orchestrator with one cell of Compute Engine and one of Azure, all real processes on loopback."""
    orchestrator = Orchestrator(folder)
    made: Fabric | None = None
    try:
        orchestrator.start()
        made = Fabric(orchestrator, orchestrator.claimed())
        made.join("gcp-1", "gcp")
        made.join("azure-1", "azure")
        yield made
    finally:
        for machine in made.machines.values() if made is not None else ():
            machine.discard()
        orchestrator.discard()
