"""User data: the bootstrap program of the cell's pattern, in one text, with a machine's settings in it; or, for a
machine with a baked image, what it is, in the form that its first program reads.

The bytes are the same on each retry of one attempt, because everything in them is pinned by the plan or derived from
the fabric's key: EC2 refuses a repeated request whose user data differ. A standalone cell's hold one secret, with which
the cell is claimed once; it is worthless after that. A registered cell's
hold one only if it joins an orchestrator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from grafos_core.fabric import Fabric
from grafos_stacks.names import claim_secret
from grafos_stacks.plan import StackPlan
from grafos_stacks.spec import ORCHESTRATOR, REGISTERED, STANDALONE

COMMON = "grafos_stacks.machine_script"
DIALLED = "grafos_stacks.bootstrap_script"
PROGRAMS = {STANDALONE: DIALLED, ORCHESTRATOR: DIALLED, REGISTERED: "grafos_stacks.registered_script"}
USER_DATA_BYTES_MAX = 12 * 1024
"""EC2 takes 16 KiB; the rest is room for what comes."""
MEM_SHARE = 2
"""One part in so many of the machine's memory is leased out as fabric memory; tasklets and the system have the rest."""
FOR_READERS = re.compile(r'^ *"""[^"]*"""\n|^# -.*\n|  # [^"\'\n]*$', re.MULTILINE)
"""Docstrings, headings and comments behind code: the source has them, and a machine gets along without."""
CREDENTIAL = "grafos.cell"
"""Under which name the image's first program looks for what the cell is."""
LOOK_EVERY_S = 15
"""How soon a machine that reads its own tags notices that it was extended."""


class Joining(NamedTuple):
    """How a registered cell's machine joins its orchestrator: the address that it dials, the CA that it pins, and the
    bootstrap token of one attempt. The token is the only secret in it, and dead after one use."""

    orchestrator: str
    ca_pem: str
    bootstrap_token: str


def render(fabric: Fabric, plan: StackPlan, attempt: int, joining: Joining | None = None) -> str:
    """The user data of one attempt at the plan's machine. Without ``joining`` a registered cell's only says that it has
    booted. The same bytes need the same token: whoever tries an attempt again gives the one that it was begun with."""
    if plan.facts.baked:
        return credentials(
            plan, joining_told(plan, joining) if plan.spec.joins else serving_told(fabric, plan, attempt)
        )
    if plan.spec.pattern == REGISTERED:
        return fill_in(_registered(plan) | _joining(plan, joining), REGISTERED)
    return fill_in(_standalone(fabric, plan, attempt))


def credentials(plan: StackPlan, told: Mapping[str, object]) -> str:
    """The user data of a machine with a baked image, in the form that systemd itself reads."""
    told = {
        **told,
        "cell_id": plan.spec.cell_id,
        "provider": plan.spec.provider,
        "region": plan.spec.region,
        "timer_at": plan.timer_at,
    }
    entry = {"name": CREDENTIAL, "text": json.dumps(told, sort_keys=True)}
    return json.dumps({"systemd.credentials": [entry]})


def joining_told(plan: StackPlan, joining: Joining | None) -> dict[str, object]:
    """Of a cell that joins. Nothing there looks whether it was extended, so its ends are the latest ones; until then
    the orchestrator, which knows, gives it nothing to do."""
    assert joining is not None, "what joins nothing does not start from a baked image"
    return {**joining._asdict(), "expires_at": plan.life.held_until}


def serving_told(fabric: Fabric, plan: StackPlan, attempt: int, **beside: object) -> dict[str, object]:
    """Of a machine with a port: its pattern, its claim, and its end, which its operator moves. ``beside`` is what its
    pattern takes more."""
    serves = {
        "pattern": plan.spec.pattern,
        "fabric": plan.fabric,
        "port": plan.spec.port,
        "claim_secret": claim_secret(fabric, plan.machine.key, attempt),
        "ends_at_most": plan.ends_at_most + plan.timer_at - plan.expires_at,
        "made_at": int(plan.made_at),
        **(beside or {"mem_capacity": plan.facts.offer.mem_bytes // MEM_SHARE}),
    }
    return {"serves": serves, "expires_at": plan.timer_at}


def fill_in(settings: dict[str, object], pattern: str = STANDALONE) -> str:
    """The program's text with its settings."""
    line = 'SETTINGS = "{}"\n'
    source = _program(PROGRAMS[pattern])
    assert source.count(line) == 1, "the program has one place for its settings"
    text = source.replace(line, f"SETTINGS = {json.dumps(json.dumps(settings, sort_keys=True))}\n")
    assert len(text.encode()) <= USER_DATA_BYTES_MAX, f"the user data have {len(text.encode())} bytes"
    return text


class Booted(NamedTuple):
    """What a registered cell's machine said on its console. ``timer_at`` (Unix seconds) is 0 if it could set none."""

    timer_at: int
    machine: str
    place: str


def booted_in(console: str, cell_id: str) -> Booted | None:
    """The newest of its lines that says that the machine of that cell has booted; None if it did not say so yet."""
    said = re.findall(rf"grafos: booted cell={re.escape(cell_id)} timer=(\d+|none) machine=(\S+) place=(\S+)", console)
    if not said:
        return None
    timer, machine, place = said[-1]
    return Booted(int(timer) if timer.isdecimal() else 0, machine, place)


def _standalone(fabric: Fabric, plan: StackPlan, attempt: int) -> dict[str, object]:
    return {
        "fabric": plan.fabric,
        "cell_id": plan.spec.cell_id,
        "provider": plan.spec.provider,
        "region": plan.spec.region,
        "port": plan.spec.port,
        "mem_capacity": plan.facts.offer.mem_bytes // MEM_SHARE,
        "bundle_sha256": plan.facts.bundle.sha256,
        "bundle_bytes": plan.facts.bundle.size_bytes,
        "expires_at": plan.expires_at,
        "ends_at_most": plan.ends_at_most,
        "claim_secret": claim_secret(fabric, plan.machine.key, attempt),
    }


def _registered(plan: StackPlan) -> dict[str, object]:
    after_s = plan.timer_at - plan.expires_at
    return {
        "cell_id": plan.spec.cell_id,
        "provider": plan.spec.provider,
        "timer_at": plan.timer_at,
        "timer_after_s": after_s,
        "timer_at_most": plan.ends_at_most + after_s,
        "look_every_s": LOOK_EVERY_S,
    }


def _joining(plan: StackPlan, joining: Joining | None) -> dict[str, object]:
    """Compute Engine's machines cannot read that they were extended, so the agent there takes the last end for its own;
    until then the orchestrator, which knows, gives it nothing to do."""
    if joining is None:
        return {}
    ends_at = plan.life.held_until if plan.spec.provider == "gcp" else plan.expires_at
    return {
        **joining._asdict(),
        "region": plan.spec.region,
        "expires_at": ends_at,
        "bundle_sha256": plan.facts.bundle.sha256,
        "bundle_bytes": plan.facts.bundle.size_bytes,
    }


@cache
def _program(name: str) -> str:
    """A program's text, with what all of them have in common in place of the import of it."""
    _, _, common = _source(COMMON).partition("from __future__ import annotations\n")
    imported = re.compile(rf"^from {re.escape(COMMON)} import (\([^)]*\)|.*)\n", re.MULTILINE)
    text, places = imported.subn(lambda _: common.lstrip(), _source(name))
    assert places == 1, "a program has one place for what it has in common with the others"
    return FOR_READERS.sub("", text)


def _source(module: str) -> str:
    package, _, name = module.rpartition(".")
    return (files(package) / f"{name}.py").read_text()
