"""What a live run will make, in whose account, and what it may cost: read from the cloud before anything is made."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from live_commands import Commands, Interrupts
from live_place import MACHINE_LIFE_S, RunInfo

from grafos_cli.accounts import ASKED_AT
from grafos_cli.clouds import public_address
from grafos_cli.regions import region_at_hand
from grafos_connectors.contract import Price
from grafos_connectors.registry import open_connector
from grafos_core.errors import GrafosError
from grafos_core.money import MICRO_CENTS_PER_CENT, format_cents, from_cents

CELL, ORCHESTRATOR = "the cell", "the orchestrator"


class Wanted(NamedTuple):
    """What was asked for; empty means open."""

    cloud: str
    max_cents: int
    region: str
    allow: str
    folder: Path
    claims: str
    yes: bool


def made_ready(asked: Wanted) -> RunInfo:
    """The run with its folder and its fabric; in the cloud nothing is changed. The cell's worst case is counted."""
    if asked.max_cents <= 0:
        raise GrafosError("usage", f"MAX_CENTS={asked.max_cents} allows nothing", next="MAX_CENTS=50, for instance")
    region = asked.region or region_at_hand(asked.cloud) or ASKED_AT[asked.cloud]
    connector = open_connector(asked.cloud, region)
    identity = connector.identity()
    folder = asked.folder / f"run-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    info = RunInfo(
        cloud=asked.cloud,
        account=identity.account,
        region=region,
        machine_type="",
        arch="",
        disk_gib=0,
        price=_NO_PRICE,
        fabric="",
        prefix=f"grafos-live-{secrets.token_hex(3)}",
        cap_micro_cents=from_cents(asked.max_cents),
        emulated=identity.emulated,
        folder=str(folder),
        record_to=str(asked.folder / "recordings"),
    )
    commands = Commands(info, Interrupts())
    commands.asked("cloud", "prices", "refresh", "--provider", asked.cloud, "--region", region)
    commands.asked("cloud", "budget", "set", str(asked.max_cents))
    plan = commands.asked(*commands.planning(), *_allowing(asked, info))["plan"]
    fabric = commands.asked("fabric", "show")["fabric"]
    info = _filled(info, plan, _id_of(fabric))
    worst = {CELL: int(plan["worst_case_micro_cents"])}
    if commands.needs_orchestrator:
        worst[ORCHESTRATOR] = int(commands.asked(*commands.raising(), "--dry-run")["plan"]["worst_case_micro_cents"])
    _check_room(info, sum(worst.values()))
    for name, micro_cents in worst.items():
        info.meter.begin(name, micro_cents)
    (folder / "run.json").write_bytes(msgspec.json.encode(info))
    return info


_NO_PRICE = Price(
    region="",
    machine_type="",
    machine_per_hour=0,
    disk_per_gib_month=0,
    address_per_hour=0,
    source="",
    as_of="",
    fictional=False,
)


def _allowing(asked: Wanted, info: RunInfo) -> tuple[str, ...]:
    """A plan on AWS says who may reach the cell; where nobody said it, the plan alone may name any address."""
    return ("--allow", asked.allow or "192.0.2.1/32") if asked.cloud == "aws" and not info.emulated else ()


def _filled(info: RunInfo, plan: dict[str, Any], fabric: str) -> RunInfo:
    facts = plan["facts"]
    return msgspec.structs.replace(
        info,
        machine_type=facts["offer"]["machine_type"],
        arch=facts["offer"]["arch"],
        disk_gib=int(facts["image"]["disk_gib"]),
        price=msgspec.convert(facts["price"], Price),
        fabric=fabric,
    )


def _id_of(fabric: Any) -> str:
    return str(fabric["id"] if isinstance(fabric, dict) else fabric)


def _check_room(info: RunInfo, life_micro_cents: int) -> None:
    """The cell's life and at least one machine of a claim must fit under the cap."""
    least = life_micro_cents + info.machine_worst_micro_cents
    if least > info.cap_micro_cents:
        needed = -(-least // MICRO_CENTS_PER_CENT)
        raise GrafosError(
            "budget_exceeded",
            f"The worst case of the cell's life and of one machine is {format_cents(least)}",
            why="what outlives a dead machine until somebody sweeps is in it",
            next=f"MAX_CENTS={needed} or more",
        )


def with_address(asked: Wanted, info: RunInfo) -> Wanted:
    """On AWS a cell has a port, open to one address: the one that was named, or ours, which is asked for."""
    if asked.cloud != "aws" or asked.allow:
        return asked
    return asked._replace(allow=f"{public_address(emulated=info.emulated)}/32")


def question(info: RunInfo, asked: Wanted) -> str:
    """What a person agrees to."""
    fictional = " (fictional)" if info.price.fictional else ""
    cell = format_cents(info.meter.counted_micro_cents)
    door = f", reachable from {asked.allow} only" if asked.allow else ""
    each = format_cents(info.machine_worst_micro_cents)
    joins = "" if info.cloud == "aws" else " and an orchestrator, which anybody may dial,"
    return (
        f"{info.cloud} account {info.account}{', emulated' if info.emulated else ''}, region {info.region}, "
        f"{info.machine_type}\n"
        f"  a cell{joins} for at most an hour{door}: {cell}{fictional} at the worst\n"
        f"  machines for the contract's claims, for {MACHINE_LIFE_S // 60} minutes at most: {each}{fictional} each\n"
        f"  all together: never more than {asked.max_cents}¢ by what is counted; traffic and taxes are not counted\n"
        f"  fabric {info.fabric}, kept in {info.folder} until nothing of it is left"
    )
