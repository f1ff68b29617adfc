"""`grafos cloud bootstrap-cell` and `cell-agent`: a machine that somebody has joins the fabric's orchestrator."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_scheduler.enrolment_messages import BootstrapGrant, BootstrapRequest

BOOTSTRAP = taught(
    examples=(
        "grafos cloud bootstrap-cell --provider gcp --cell-id gcp-1 --region us-central1 --rate 3.35",
        "grafos cloud bootstrap-cell --provider azure --cell-id azure-1 --ttl 8h --token-file ./bootstrap-token",
    ),
    next="grafos fabric cells",
)
_AGENT_EXAMPLE = (
    "grafos cloud cell-agent --orchestrator URL --provider gcp --cell-id gcp-1 --trust ./trust --state ./state"
)
AGENT = taught(examples=(_AGENT_EXAMPLE, f"{_AGENT_EXAMPLE} --print-unit"), next="grafos fabric cells")
AGENT_MODULE = "grafos_cell.registered"
RATE_CENTS_MAX = 100_000
"""A thousand dollars an hour: no machine costs that."""


class Joining(NamedTuple):
    """Who joins, where it keeps its identity and its state, and at which orchestrator."""

    provider: str
    cell_id: str
    region: str
    expires_at: float
    folder: Path
    orchestrator: str

    @property
    def trust(self) -> Path:
        return self.folder / "trust"

    def agent(self, *more: str) -> list[str]:
        """What starts the cell's agent on its machine."""
        words = ["grafos", "cloud", "cell-agent", "--orchestrator", self.orchestrator, "--provider", self.provider]
        words += ["--cell-id", self.cell_id, *(("--region", self.region) if self.region else ())]
        words += ["--trust", str(self.trust), "--state", str(self.folder / "state")]
        words += ["--expires-at", f"{self.expires_at:.0f}"] if self.expires_at else []
        return [*words, *more]


def bootstrap_cell(
    ctx: typer.Context,
    provider: Annotated[str, typer.Option(metavar="NAME", help="whose machine it is: aws, azure, gcp")],
    cell_id: Annotated[str, typer.Option(metavar="ID", help="the cell's name")],
    region: Annotated[str, typer.Option(metavar="NAME", help="where the machine is")] = "",
    rate: Annotated[str, typer.Option(metavar="CENTS", help="what an hour of it costs, in US cents: 3.35")] = "0",
    ttl: Annotated[str, typer.Option(metavar="TIME", help="the cell's end: 90m, 8h, 2d; default: none")] = "",
    folder: Annotated[
        str, typer.Option(metavar="DIR", help="where the cell keeps identity and state; default: one named like it")
    ] = "",
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="enrol nothing here: write the token there, for another machine")
    ] = "",
    new_key: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--new-key", help="with a new key: for a cell that was revoked")
    ] = False,
) -> None:
    """Enrols this machine as a cell of the fabric's orchestrator, or writes the token for another machine to do so.

    Here a key is made that never leaves the machine, and exchanged for a certificate that lives for an hour; the agent
    renews it. Elsewhere the token is for one use within fifteen minutes, and the orchestrator's CA lies beside it.
    """
    from grafos_cli.fabric import open_default
    from grafos_cli.sizes import read_duration
    from grafos_core.ids import check_name
    from grafos_scheduler.enrolment_messages import BootstrapRequest
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import OPERATOR
    from grafos_stacks.spec import check_cell_id

    terminal = terminal_of(ctx)
    check_name("provider", provider)
    check_cell_id(cell_id)
    expires_at = float(round(time.time()) + read_duration("--ttl", ttl)) if ttl else 0.0
    asked = BootstrapRequest(provider, cell_id, region, _micro_cents(rate), expires_at)
    fabric = open_default(terminal)
    _refuse_claimed(fabric, cell_id)
    home = OrchestratorHome(fabric)
    url = home.known().url
    place = Path(folder or cell_id).absolute()
    joining = Joining(provider, cell_id, region, expires_at, place, url)
    with home.client(OPERATOR) as client:
        granted = client.bootstrap(asked)
    if token_file:
        _hand_out(joining, asked, granted, Path(token_file), terminal)
    else:
        _enrol_here(joining, asked, granted, terminal, new_key=new_key)


def cell_agent(ctx: typer.Context) -> None:
    """Runs the agent of a registered cell in place of this command: `grafos-cell-agent`, with the same flags.

    It enrols if it must, dials the orchestrator, leases out the machine, renews its certificate, and ends by SIGTERM
    or at the cell's end. With --print-unit it prints a unit for systemd instead. Its flags are in
    docs/reference/daemons.md.
    """
    import os
    import sys

    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", AGENT_MODULE, *ctx.args])  # noqa: S606


def _enrol_here(
    joining: Joining, asked: BootstrapRequest, granted: BootstrapGrant, terminal: Terminal, *, new_key: bool
) -> None:
    import asyncio
    import random

    from grafos_cell import enrolling
    from grafos_cell.registered import CA_FILE, TOKEN_FILE
    from grafos_cli.steps import show_steps
    from grafos_core.clock import SystemClock
    from grafos_core.errors import GrafosError

    token_file, ca_file = joining.trust / TOKEN_FILE, joining.trust / CA_FILE
    _write(token_file, ca_file, granted)
    if new_key:
        enrolling.give_up(joining.trust)
    bootstrap = enrolling.Bootstrap(joining.orchestrator, asked.provider, asked.cell_id, token_file, ca_file)
    try:
        with show_steps(terminal, waiting="enrolling"):
            asyncio.run(enrolling.enrol(joining.trust, bootstrap, SystemClock(), random.SystemRandom()))
    except GrafosError as error:
        if error.code == "enrolment_refused":
            error.next = f"after a revocation: the same with --new-key; else: grafos provider status {asked.provider}"
        raise
    finally:
        token_file.unlink(missing_ok=True)
    command = joining.agent()
    text = (
        f"Cell {joining.cell_id} of {joining.provider} has enrolled at {joining.orchestrator}; its key is in "
        f"{joining.trust} and stays there.\nStart its agent within the hour; that keeps the certificate fresh:\n\n"
        f"  {shlex.join(command)}\n\nAs a service:  the same with --print-unit > grafos-cell.service\n"
    )
    terminal.emit(_document(joining, asked, granted, command, enrolled=True), text)


def _hand_out(
    joining: Joining, asked: BootstrapRequest, granted: BootstrapGrant, token_file: Path, terminal: Terminal
) -> None:
    from grafos_cell.registered import CA_FILE
    from grafos_cli.moments import when_text

    ca_file = token_file.absolute().parent / CA_FILE
    _write(token_file, ca_file, granted)
    there = joining._replace(folder=Path(joining.cell_id))
    command = there.agent("--bootstrap-token-file", token_file.name, "--ca-file", ca_file.name)
    text = (
        f"Wrote the bootstrap token of cell {joining.cell_id} to {token_file} (0600), and the orchestrator's CA to "
        f"{ca_file}.\nThe token is for one use, and lapses {when_text(granted.valid_until, time.time())}. "
        f"Copy both to the machine, and start there:\n\n  {shlex.join(command)}\n"
    )
    terminal.emit(_document(joining, asked, granted, command, enrolled=False), text)


def _document(
    joining: Joining, asked: BootstrapRequest, granted: BootstrapGrant, command: list[str], *, enrolled: bool
) -> dict[str, object]:
    """Everything but the token itself."""
    return {
        "cell_id": asked.cell_id,
        "provider": asked.provider,
        "region": asked.region,
        "rate_micro_cents_per_hour": asked.rate_micro_cents_per_hour,
        "expires_at": asked.expires_at,
        "orchestrator": joining.orchestrator,
        "enrolled": enrolled,
        "token_lapses_at": granted.valid_until,
        "command": command,
    }


def _write(token_file: Path, ca_file: Path, granted: BootstrapGrant) -> None:
    """Both files, private; ``config_invalid`` where that cannot be."""
    from grafos_core.errors import GrafosError
    from grafos_core.paths import private_folder, write_private

    try:
        private_folder(token_file.absolute().parent)
        write_private(ca_file, granted.ca_pem.encode())
        write_private(token_file, granted.token.encode() + b"\n")
    except OSError as error:
        raise GrafosError(
            "config_invalid",
            "The bootstrap token cannot be written",
            where=str(token_file),
            why=error.strerror or str(error),
            next="name a place that you may write to: --folder DIR or --token-file FILE",
        ) from error


def _refuse_claimed(fabric: Fabric, cell_id: str) -> None:
    """``config_invalid`` for the name of a standalone cell: receipts of the two could not be told apart."""
    from grafos_core.errors import GrafosError

    if (fabric.home / "cells" / cell_id / "ca.pem").exists():
        raise GrafosError(
            "config_invalid",
            f"{cell_id} is, or was, a standalone cell of this fabric",
            where="--cell-id",
            why="its receipts are verified by a CA of its own",
            next="choose another name",
        )


def _micro_cents(text: str) -> int:
    """Micro-cents of US cents with decimals, rounded up; ``usage``."""
    from decimal import Decimal, InvalidOperation

    from grafos_core.errors import GrafosError
    from grafos_core.money import from_usd

    try:
        cents = Decimal(text)
        if not 0 <= cents <= RATE_CENTS_MAX:
            raise InvalidOperation
    except InvalidOperation as error:
        raise GrafosError(
            "usage",
            f"{text[:40]!r} is no price of an hour",
            where="--rate",
            why=f"it is a number of US cents from 0 to {RATE_CENTS_MAX:,}",
            next="write it like 3.35",
        ) from error
    return from_usd(cents / 100)
