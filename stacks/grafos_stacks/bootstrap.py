"""User data: the bootstrap program with a machine's settings in it.

The bytes are the same on each retry of one attempt, because everything in them is pinned by the plan or derived from
the fabric's key: EC2 refuses a repeated request whose user data differ. They hold one secret, with which the cell is
claimed once; it is worthless after that.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from grafos_core.fabric import Fabric
from grafos_stacks.names import claim_secret
from grafos_stacks.plan import StackPlan

PROGRAM = "grafos_stacks.bootstrap_script"
USER_DATA_BYTES_MAX = 12 * 1024
"""EC2 takes 16 KiB; the rest is room for what comes."""
MEM_SHARE = 2
"""One part in so many of the machine's memory is leased out as fabric memory; tasklets and the system have the rest."""


def render(fabric: Fabric, plan: StackPlan, attempt: int) -> str:
    """The user data of one attempt at the plan's machine."""
    settings = {
        "fabric": plan.fabric,
        "cell_id": plan.spec.cell_id,
        "provider": plan.spec.provider,
        "region": plan.spec.region,
        "port": plan.spec.port,
        "mem_capacity": plan.facts.offer.mem_bytes // MEM_SHARE,
        "bundle_sha256": plan.facts.bundle.sha256,
        "bundle_bytes": plan.facts.bundle.size_bytes,
        "expires_at": plan.expires_at,
        "claim_secret": claim_secret(fabric, plan.machine.key, attempt),
    }
    text = fill_in(settings)
    assert len(text) <= USER_DATA_BYTES_MAX, f"the user data have {len(text)} bytes"
    return text


def fill_in(settings: dict[str, object]) -> str:
    """The program's text with its settings."""
    line = 'SETTINGS = "{}"\n'
    source = _source()
    assert source.count(line) == 1, "the program has one place for its settings"
    return source.replace(line, f"SETTINGS = {json.dumps(json.dumps(settings, sort_keys=True))}\n")


@cache
def _source() -> str:
    package, _, name = PROGRAM.rpartition(".")
    return (files(package) / f"{name}.py").read_text()
