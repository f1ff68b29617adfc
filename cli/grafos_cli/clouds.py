"""Wires connector, journal, fabric and stacks together for `grafos cloud`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from grafos_cli.fabric import open_default
from grafos_cli.interrupts import resumable
from grafos_cli.project import project_folder
from grafos_cli.steps import Steps, show_steps
from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.progress import DONE, Progress, Step
from grafos_stacks.provision import Prepared, prepare
from grafos_stacks.provision import provision as provision_cell
from grafos_stacks.records import CellHome, CellRecord
from grafos_stacks.spec import CellSpec, new_cell_id
from grafos_stacks.teardown import TornDownCell
from grafos_stacks.teardown import teardown as tear_down_cell

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

EMULATED_OPERATOR = "127.0.0.1/32"
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
LOCAL = "local"


class Wanted(NamedTuple):
    """What was asked for on the command line; empty means open."""

    provider: str
    region: str
    machine_type: str
    ttl_s: int
    cell_id: str
    port: int
    allow: str


class Work(NamedTuple):
    """A plan that was shown, and what it takes to carry it out."""

    hands: Hands
    bundles: Bundles
    prepared: Prepared


@contextmanager
def plan_it(wanted: Wanted, terminal: Terminal) -> Iterator[Work]:
    """Reads what the plan needs, changing nothing; the journal is closed at the end of the block."""
    bundles = Bundles()
    again = "nothing was made yet; run it again when you like"
    with _hands(wanted.provider, wanted.region, terminal) as hands:
        with resumable("Stopped while the plan was made", again), show_steps(terminal) as steps:
            steps.began("plan", "who we are")
            spec = _spec(wanted, emulated=hands.connector.identity().emulated)
            steps.changed("plan", "offers, image, price, software")
            prepared = prepare(hands, spec, bundles)
            steps.ended("plan", f"{len(prepared.plan.resources)} resources")
        yield Work(hands, bundles, prepared)


def carry_out(work: Work, terminal: Terminal) -> tuple[CellRecord, float]:
    """Makes what was planned; the cell's record and the seconds that it took."""
    began, plan = time.monotonic(), work.prepared.plan
    with show_steps(terminal, plan.predicted_s) as steps:
        hands = replace(work.hands, progress=_listener(steps))
        record = provision_cell(hands, plan, work.bundles, project_folder())
    return record, time.monotonic() - began


def tear_down(provider: str, cell_id: str, region: str, terminal: Terminal) -> TornDownCell:
    """Takes the cell down; Ctrl-C leaves a state that the same command finishes."""
    fabric = open_default(terminal)
    known = region or CellHome(fabric, cell_id).region() or _region_or_nothing()
    with _hands(provider, known, terminal) as quiet, show_steps(terminal) as steps:
        hands = replace(quiet, progress=_listener(steps))
        return tear_down_cell(hands, cell_id, project_folder(), region=region, provider=provider)


def cells_of_fabric(terminal: Terminal) -> list[tuple[CellRecord, str]]:
    """The cells on clouds that the fabric knows, the newest first, and whether each lives, ran out or is gone."""
    fabric = open_default(terminal)
    found: list[tuple[CellRecord, str]] = []
    for cell_id in fabric.cell_ids():
        home = CellHome(fabric, cell_id)
        if not home.is_recorded:
            continue
        record = home.record()
        if record.provider != LOCAL:
            ran_out = 0 < record.expires_at < time.time()
            found.append((record, "gone" if record.gone_at else "expired" if ran_out else "live"))
    return sorted(found, key=lambda pair: -pair[0].provisioned_at)


def _spec(wanted: Wanted, *, emulated: bool) -> CellSpec:
    return CellSpec(
        provider=wanted.provider,
        cell_id=wanted.cell_id or new_cell_id(wanted.provider, random.SystemRandom()),
        region=_region(wanted.region),
        operator_cidr=_operator(wanted.allow, emulated=emulated),
        machine_type=wanted.machine_type,
        ttl_s=wanted.ttl_s,
        port=wanted.port,
    )


@contextmanager
def _hands(provider: str, region: str, terminal: Terminal) -> Iterator[Hands]:
    clock = SystemClock()
    connector = open_connector(provider, region or _region_or_nothing())  # first: what it refuses makes no fabric
    fabric = open_default(terminal)
    journal = Journal(fabric, clock)
    try:
        yield Hands(fabric, connector, journal, clock, time.sleep)
    finally:
        journal.close()


def _listener(steps: Steps) -> Progress:
    """Draws what stacks tells."""

    def hear(step: Step) -> None:
        if step.state == DONE:
            steps.ended(step.name, step.note)
        else:
            steps.changed(step.name, step.note)

    return hear


def _region(given: str) -> str:
    region = given or _region_or_nothing()
    if not region:
        raise GrafosError(
            "config_invalid",
            "No region was given",
            why=f"neither --region nor {' nor '.join(REGION_VARIABLES)} names one",
            next="grafos cloud provision aws --region us-east-1",
        )
    return region


def _region_or_nothing() -> str:
    return next((os.environ[name] for name in REGION_VARIABLES if os.environ.get(name)), "")


def _operator(allow: str, *, emulated: bool) -> str:
    """From where the cell may be reached. Our own public address cannot be known without asking somebody."""
    if allow:
        return allow if "/" in allow else f"{allow}/32"
    if emulated:
        return EMULATED_OPERATOR
    raise GrafosError(
        "confirmation_needed",
        "The cell's port is opened to one address only, and nobody said to which",
        next="add --allow YOUR.PUBLIC.IP.ADDRESS, for instance --allow $(curl -s https://checkip.amazonaws.com)",
    )
