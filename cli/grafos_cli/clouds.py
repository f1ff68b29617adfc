"""Wires connector, journal, fabric and stacks together for `grafos cloud`."""

from __future__ import annotations

import ipaddress
import os
import random
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from grafos_cli.fabric import open_default
from grafos_cli.interrupts import resumable
from grafos_cli.project import project_folder
from grafos_cli.regions import REGION_VARIABLES, region_at_hand
from grafos_cli.steps import Steps, show_steps
from grafos_cli.tables import short_id
from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.looking import state_of
from grafos_stacks.progress import DONE, Progress, Step
from grafos_stacks.provision import Prepared, prepare
from grafos_stacks.provision import provision as provision_cell
from grafos_stacks.records import CellHome, CellRecord
from grafos_stacks.spec import STANDALONE, CellSpec, new_cell_id

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

EXAMPLE_REGIONS = {"aws": "us-east-1", "azure": "eastus", "gcp": "us-central1"}
EMULATED_OPERATOR = "127.0.0.1/32"
LOCAL = "local"
MY_IP_URL = "https://checkip.amazonaws.com"
"""Answers with the address that a question came from; run by AWS, for anybody."""
MY_IP_VARIABLE = "GRAFOS_MY_IP_URL"
"""Names another service that does the same."""
MY_IP_TIMEOUT_S = 10.0


class Wanted(NamedTuple):
    """What was asked for on the command line; empty means open."""

    provider: str
    region: str
    machine_type: str
    ttl_s: int
    cell_id: str
    port: int
    allow: str
    max_ttl_s: int = 0


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


def cells_of_fabric(terminal: Terminal) -> list[tuple[CellRecord, str]]:
    """The cells on clouds that the fabric knows, the newest first, each with where it is in its life."""
    fabric = open_default(terminal)
    found: list[tuple[CellRecord, str]] = []
    for cell_id in fabric.cell_ids():
        home = CellHome(fabric, cell_id)
        if not home.is_recorded:
            continue
        record = home.record()
        if record.provider != LOCAL:
            found.append((record, state_of(record, time.time())))
    return sorted(found, key=lambda pair: -pair[0].provisioned_at)


@contextmanager
def hands_of(cell_id: str, terminal: Terminal) -> Iterator[Hands]:
    """What it takes to work on a cell that the fabric knows, with its steps drawn; ``cell_unknown`` if it does not."""
    record = CellHome(open_default(terminal), cell_id).record()
    if record.provider == LOCAL:
        raise GrafosError("unsupported", f"{cell_id} is the local cell, on no cloud", next="grafos dev up")
    with _hands(record.provider, record.region, terminal) as quiet, show_steps(terminal) as steps:
        yield replace(quiet, progress=_listener(steps))


def public_address(*, emulated: bool) -> str:
    """The address from which we are seen, asked of somebody; loopback for an emulated cloud, which is no question."""
    if emulated:
        return EMULATED_OPERATOR.partition("/")[0]
    url = os.environ.get(MY_IP_VARIABLE) or MY_IP_URL
    try:
        with urllib.request.urlopen(url, timeout=MY_IP_TIMEOUT_S) as answer:  # noqa: S310  the person's own choice
            return str(ipaddress.IPv4Address(answer.read(100).decode("ascii", "replace").strip()))
    except (OSError, ValueError) as error:
        raise GrafosError(
            "cloud_unreachable",
            "The public address of this machine could not be found out",
            where=url,
            why=str(error),
            next="name it yourself: --cidr 203.0.113.7/32",
        ) from error


def _spec(wanted: Wanted, *, emulated: bool) -> CellSpec:
    spec = CellSpec(
        provider=wanted.provider,
        cell_id=wanted.cell_id or new_cell_id(wanted.provider, random.SystemRandom()),
        region=_region(wanted),
        operator_cidr="",
        machine_type=wanted.machine_type,
        ttl_s=wanted.ttl_s,
        port=wanted.port,
        max_ttl_s=wanted.max_ttl_s,
    )
    standalone = spec.pattern == STANDALONE
    operator = _operator(wanted.allow, emulated=emulated) if standalone else wanted.allow
    return msgspec.structs.replace(spec, operator_cidr=operator)


@contextmanager
def _hands(provider: str, region: str, terminal: Terminal) -> Iterator[Hands]:
    clock = SystemClock()
    connector = open_connector(provider, region or region_at_hand(provider))  # first: what it refuses makes no fabric
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
            steps.ended(step.name, short_id(step.note))
        else:
            steps.changed(step.name, short_id(step.note))

    return hear


def _region(wanted: Wanted) -> str:
    region = wanted.region or region_at_hand(wanted.provider)
    if not region:
        names = REGION_VARIABLES.get(wanted.provider, ())
        raise GrafosError(
            "config_invalid",
            "No region was given",
            why=f"neither {' nor '.join(('--region', *names))} names one",
            next=f"grafos cloud provision {wanted.provider} --region {EXAMPLE_REGIONS.get(wanted.provider, 'NAME')}",
        )
    return region


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
