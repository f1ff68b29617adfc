"""What a machine with a baked image becomes, told by a credential of systemd: the agent of a cell that joins an
orchestrator, the supervisor of a standalone cell, or that of an orchestrator.

    python3 -m grafos_cell.baked        as an account that nobody has, after ``grafos_cell.first_boot``

The credential ``grafos.cell`` is one JSON document (``Told``). With an expectation in the place of the bootstrap token
nothing in it is a secret; the claim secret of a machine with a port is worth nothing after the claim.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from grafos_cell import registered
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder, write_private
from grafos_core.program import run_program

CREDENTIAL = "grafos.cell"
ADDRESSES = "grafos.addresses"
"""The credential in which the first program lays a machine's own addresses, the one to bind to first, a line each."""
CLAIM_FILE = "claim-secret"


class Serves(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine with a port is told beside, whose ``pattern`` says what answers there. ``claim_secret`` is for one
    use. ``ends_at_most`` is the latest end that its timer may be moved to, ``made_at`` when it was asked for (Unix
    seconds). ``names`` are addresses by which it is dialled that it cannot find out itself. ``mem_capacity`` (bytes) is
    what a standalone cell leases out, the last two are how an orchestrator judges its cells."""

    pattern: Literal["standalone", "orchestrator"]
    fabric: str
    port: Annotated[int, msgspec.Meta(ge=1024, le=65535)]
    claim_secret: str
    ends_at_most: int
    made_at: int
    names: tuple[str, ...] = ()
    mem_capacity: int = 0
    healthy_after_s: float = 0.0
    heartbeat_every_s: float = 0.0


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine is told when it is made. Times are Unix seconds, 0 for never: ``expires_at`` is the daemons' own
    end, ``timer_at`` the machine's. A cell that joins has ``orchestrator`` to ``bootstrap_token``, any other machine
    ``serves``."""

    cell_id: str
    provider: str
    orchestrator: str = ""
    ca_pem: str = ""
    bootstrap_token: str = ""
    region: str = ""
    expires_at: int = 0
    timer_at: int = 0
    serves: Serves | None = None

    def __post_init__(self) -> None:
        joins = [bool(part) for part in (self.orchestrator, self.ca_pem, self.bootstrap_token)]
        if joins != [self.serves is None] * len(joins):
            raise ValueError("it joins an orchestrator, all that it takes told, or has a port of its own")


def main() -> None:
    """Exit code 0 after SIGTERM or at the cell's end, else that of the error."""
    run_program(start)


def start(_: Sequence[str]) -> None:
    """Becomes what it is told. What it was given once is written once: a used token does not come back with a
    reboot."""
    credentials = folder_of("CREDENTIALS_DIRECTORY")
    told = read_told((credentials / CREDENTIAL).read_bytes())
    state = folder_of("STATE_DIRECTORY")
    if told.serves is None:
        given = {registered.CA_FILE: told.ca_pem, registered.TOKEN_FILE: told.bootstrap_token}
        registered.start(arguments(told, state, given_once(state / "trust", given)))
        return
    # The first program, which has to be small, imports this module for the form of the credential alone.
    from grafos_cell.baked_supervisors import supervise

    own = given_once(state / told.serves.pattern, {CLAIM_FILE: told.serves.claim_secret})
    supervise(told, told.serves, own, (credentials / ADDRESSES).read_text().split())


def given_once(folder: Path, files: Mapping[str, str]) -> Path:
    """The folder, which appears with all of the files or not at all."""
    if not folder.is_dir():
        draft = private_folder(folder.with_suffix(".new"))
        for name, text in files.items():
            write_private(draft / name, text.encode())
        draft.rename(folder)
    return folder


def arguments(told: Told, state: Path, trust: Path) -> list[str]:
    """The agent's command line."""
    given = {
        "orchestrator": told.orchestrator,
        "provider": told.provider,
        "cell-id": told.cell_id,
        "region": told.region,
        "trust": trust,
        "state": state / "cell",
        "expires-at": told.expires_at,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def read_told(data: bytes) -> Told:
    """``config_invalid`` if it is not what a machine of ours is told."""
    try:
        return msgspec.json.decode(data, type=Told)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GrafosError(
            "config_invalid", "what this machine was told is not what a cell is told", where=CREDENTIAL, why=str(error)
        ) from error


def folder_of(variable: str) -> Path:
    """A folder that systemd gives a unit."""
    try:
        return Path(os.environ[variable].split(":")[0])
    except KeyError:
        raise GrafosError(
            "config_invalid", "this program runs as a unit of a baked image only", where=f"${variable}"
        ) from None


if __name__ == "__main__":
    main()
