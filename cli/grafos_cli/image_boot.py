"""`grafos cloud image boot`: the image boots in an emulator on this machine and joins the fabric's orchestrator."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlsplit

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cellimage.booting import Machine
    from grafos_cellimage.record import BakedImage
    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.enrolment_messages import BootstrapGrant
    from grafos_stacks.orchestrators import OrchestratorHome

BOOT = taught(
    examples=("grafos cloud image boot", "grafos cloud image boot --dress aws --until-ready --json"),
    next="grafos fabric cells",
)
READY_S_MAX = 1800.0
"""Without the help of the processor a boot takes a minute, one of another architecture five, and several times that on
a machine that is busy."""
LOOK_EVERY_S = 0.5
LIFE_S = 8 * 3600
"""The machine ends itself then, whatever became of the command that started it."""
SHOWN_LINES = 6
ONCE_MORE = "grafos cloud image boot"


class Boot(NamedTuple):
    """What a boot is made of."""

    image: BakedImage
    cell_id: str
    provider: str
    memory_mb: int
    dialled: Dialled
    expires_at: int


class Dialled(NamedTuple):
    """Where the machine dials the orchestrator, and what of this machine's loopback it finds there."""

    url: str
    reaches: tuple[str, ...] | None


def boot(
    ctx: typer.Context,
    image: Annotated[str, typer.Option(metavar="FILE", help="the disk of an image (the newest that was baked)")] = "",
    cell_id: Annotated[str, typer.Option(metavar="ID", help="the cell's name (a new one)")] = "",
    dress: Annotated[str, typer.Option(metavar="CLOUD", help="the machine is like one of aws, azure or gcp")] = "gcp",
    memory: Annotated[int, typer.Option(metavar="MB", help="of the machine")] = 1024,
    until_ready: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--until-ready", help="end when the cell is ready")
    ] = False,
) -> None:
    """Starts an image on this machine and waits until it is a ready cell of the fabric's orchestrator.

    It runs until Ctrl-C; then the machine is switched off, its disk is gone and the cell's identity is taken back. The
    image stays as it was. The machine is told by its firmware which cell it is, as on a cloud by its user data. It
    reaches the orchestrator and nothing else; where that is on another machine, it reaches whatever this one does.

    Without an orchestrator, `grafos fabric init` prints the command that starts one here.
    """
    from grafos_cellimage.booting import Asked, booted
    from grafos_cli.fabric import open_default
    from grafos_cli.image_view import chosen_image, image_document
    from grafos_cli.steps import show_steps
    from grafos_scheduler.enrolment_messages import BootstrapRequest
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import OPERATOR

    terminal, began = terminal_of(ctx), time.monotonic()
    fabric = open_default(terminal)
    home = OrchestratorHome(fabric)
    name = cell_id or f"booted-{secrets.token_hex(3)}"
    asked = Boot(chosen_image(image, fabric), name, dress, memory, _dialled(home), int(time.time()) + LIFE_S)
    with home.client(OPERATOR) as client:
        granted = client.bootstrap(BootstrapRequest(dress, name, "here", 0, float(asked.expires_at)))
    with _taken_back(home, name), show_steps(terminal) as steps:
        wanted = Asked(dress, _credential(asked, granted), memory_mb=memory, reaches=asked.dialled.reaches)
        with booted(asked.image, wanted) as machine:
            _until_ready(home, asked, machine, steps)
            took_s = time.monotonic() - began
            document = {"image": image_document(asked.image), "cell_id": name, "dress": dress, "took_s": took_s}
            text = f"Cell {name} is ready, {took_s:.0f} s after the machine was asked for.\n"
            terminal.emit(document, text if until_ready else f"{text}Ctrl-C switches it off.\n")
            if not until_ready:
                _stay(machine, terminal)


def _dialled(home: OrchestratorHome) -> Dialled:
    """What is at this machine's loopback has another address from inside, which an orchestrator there names in its
    certificate: a machine believes no other."""
    import ipaddress

    from grafos_core.errors import GrafosError
    from grafos_core.virtual_machines import HOST

    url = home.known().url
    parts = urlsplit(url)
    assert parts.hostname is not None, "the record holds a whole address"
    if not ipaddress.ip_address(parts.hostname).is_loopback:
        return Dialled(url, None)
    if not _names(home, parts.hostname, parts.port or 0, HOST):
        raise GrafosError(
            "config_invalid",
            "the orchestrator's certificate does not name the address that a machine on this one dials",
            where=url,
            why=f"from inside, this machine is {HOST}; an older version made the certificate",
            next="stop the orchestrator, and start it again with the same command",
        )
    return Dialled(f"https://{HOST}:{parts.port}", (parts.netloc,))


def _names(home: OrchestratorHome, address: str, port: int, name: str) -> bool:
    """Whether whoever answers there has the orchestrator's CA behind it, and that name."""
    import socket
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=home.ca_pem)
    try:
        with (
            socket.create_connection((address, port), timeout=5.0) as way,
            context.wrap_socket(way, server_hostname=name),
        ):
            return True
    except ssl.SSLCertVerificationError:
        return False
    except OSError:
        return True  # it is away: whoever asks it for the token says so better


def _credential(asked: Boot, granted: BootstrapGrant) -> str:
    """What the machine is told."""
    import msgspec

    from grafos_cell.baked import Told

    told = Told(
        cell_id=asked.cell_id,
        provider=asked.provider,
        orchestrator=asked.dialled.url,
        ca_pem=granted.ca_pem,
        bootstrap_token=granted.token,
        region="here",
        expires_at=asked.expires_at,
        timer_at=asked.expires_at,
    )
    return msgspec.json.encode(told).decode()


def _until_ready(home: OrchestratorHome, asked: Boot, machine: Machine, steps: Steps) -> None:
    from grafos_core.errors import GrafosError
    from grafos_stacks.records import OPERATOR

    until = time.monotonic() + READY_S_MAX
    steps.began("the machine boots")
    has_booted = False
    with home.client(OPERATOR) as client:
        while not any(cell.cell_id == asked.cell_id and cell.ready for cell in client.cells()):
            if not has_booted and "grafos: booted" in machine.console:
                has_booted = True
                steps.ended("the machine boots")
                steps.began("the cell joins")
            if not machine.is_on or time.monotonic() > until:
                said = machine.console.strip().splitlines()[-SHOWN_LINES:]
                raise GrafosError(
                    "cell_not_ready",
                    "the machine did not become a ready cell",
                    why=machine.complaint() or "\n".join(said) or "it said nothing",
                    next=ONCE_MORE,
                )
            time.sleep(LOOK_EVERY_S)
    steps.ended("the cell joins" if has_booted else "the machine boots")


def _stay(machine: Machine, terminal: Terminal) -> None:
    """Until Ctrl-C, or until the machine switched itself off."""
    try:
        while machine.is_on:
            time.sleep(LOOK_EVERY_S)
        terminal.note("The machine has switched itself off.")
    except KeyboardInterrupt:
        terminal.note("Switched off.")


@contextlib.contextmanager
def _taken_back(home: OrchestratorHome, cell_id: str) -> Iterator[None]:
    """The cell's disk is gone after the block, so nobody else is to be this cell either."""
    from grafos_core.errors import GrafosError
    from grafos_stacks.records import OPERATOR

    try:
        yield
    finally:
        with contextlib.suppress(GrafosError), home.client(OPERATOR) as client:
            client.revoke_cell(cell_id, why="the machine that was booted is gone", grace_s=0.0)
