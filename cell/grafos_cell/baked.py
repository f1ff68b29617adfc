"""The daemon of a cell whose machine runs a baked image: as ``grafos-cell-agent``, told by a credential of systemd.

    python3 -m grafos_cell.baked        as an account that nobody has, after ``grafos_cell.first_boot``

The credential ``grafos.cell`` is one JSON document (``Told``). With an expectation in the place of the bootstrap token
nothing in it is a secret.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from grafos_cell import registered
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder, write_private
from grafos_core.program import run_program

CREDENTIAL = "grafos.cell"


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a registered cell is told when its machine is made. Times are Unix seconds, 0 for never: ``expires_at`` is
    the daemon's own end, ``timer_at`` the machine's."""

    cell_id: str
    provider: str
    orchestrator: str
    ca_pem: str
    bootstrap_token: str
    region: str = ""
    expires_at: int = 0
    timer_at: int = 0


def main() -> None:
    """Exit code 0 after SIGTERM or at the cell's end, else that of the error."""
    run_program(start)


def start(_: Sequence[str]) -> None:
    """Becomes the agent. What it was given once is written once: a used token does not come back with a reboot."""
    told = read_told((_folder("CREDENTIALS_DIRECTORY") / CREDENTIAL).read_bytes())
    state = _folder("STATE_DIRECTORY")
    trust = state / "trust"
    if not trust.is_dir():
        draft = private_folder(state / "trust.new")
        write_private(draft / registered.CA_FILE, told.ca_pem.encode())
        write_private(draft / registered.TOKEN_FILE, told.bootstrap_token.encode())
        draft.rename(trust)
    registered.start(arguments(told, state, trust))


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
    """``config_invalid`` if it is not what a cell is told."""
    try:
        return msgspec.json.decode(data, type=Told)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GrafosError(
            "config_invalid", "what this machine was told is not what a cell is told", where=CREDENTIAL, why=str(error)
        ) from error


def _folder(variable: str) -> Path:
    """A folder that systemd gives a unit."""
    try:
        return Path(os.environ[variable].split(":")[0])
    except KeyError:
        raise GrafosError(
            "config_invalid", "this program runs as a unit of a baked image only", where=f"${variable}"
        ) from None


if __name__ == "__main__":
    main()
