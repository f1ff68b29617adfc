"""From the name of a provider to a scheduler that can be asked, with the credentials for it.

`local` is the local fabric of this project; `aws` a standalone cell of `.grafos/cloud/aws-cells.json`: the one that
is named, else the newest that is not past its expiry.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.client import SchedulerClient

LOCAL = "local"


class Reach(NamedTuple):
    """One scheduler as a tenant reaches it. ``note`` says why this one, where there was a choice."""

    provider: str
    cell_id: str
    url: str
    ca_pem: str
    certificate: Path
    key: Path
    api_token: str
    note: str = ""

    def client(self, patience_s: float = 0.0) -> SchedulerClient:
        """A client to close when done; it keeps trying for ``patience_s`` while the scheduler is out of reach."""
        from grafos_scheduler.client import SchedulerClient

        return SchedulerClient(self.url, self.ca_pem, self.certificate, self.key, self.api_token, patience_s=patience_s)


def reach_local(project: Path) -> Reach:
    """The local fabric, which must run: else ``runtime_not_ready`` with the command that starts it."""
    from grafos_cli.local_state import dev_folder, read_local_fabric

    record = read_local_fabric(project)
    if record is None or not record.ready:
        raise GrafosError(
            "runtime_not_ready", "No local fabric runs in this project", where=str(project), next="grafos dev up"
        )
    if not record.is_alive:
        dead = ", ".join(daemon.name for daemon in record.daemons if not daemon.is_alive)
        raise GrafosError(
            "runtime_not_ready",
            f"The local fabric has crashed: {dead} ended",
            where=str(dev_folder(project)),
            next="grafos dev up  (it goes on with the state that is on disk)",
        )
    folder = dev_folder(project)
    try:
        ca_pem, token = (folder / record.ca).read_text(), (folder / record.tenant_token).read_text()
    except OSError as error:
        raise GrafosError(
            "dev_state_invalid",
            "The local fabric's credentials cannot be read",
            where=str(folder / "trust"),
            why=error.strerror or str(error),
            next="grafos dev down, then grafos dev up",
        ) from error
    return Reach(
        provider=LOCAL,
        cell_id=record.cell_id,
        url=record.scheduler_url,
        ca_pem=ca_pem,
        certificate=folder / record.tenant_certificate,
        key=folder / record.tenant_key,
        api_token=token.strip(),
    )


def resolve(provider: str, project: Path, cell_id: str = "") -> Reach:
    """The scheduler for a run on ``provider``; ``runtime_not_ready``, ``cell_unknown`` or ``unsupported``."""
    if provider == LOCAL:
        found = reach_local(project)
        if cell_id not in ("", found.cell_id):
            raise GrafosError(
                "cell_unknown", f"The local cell is {found.cell_id}, not {cell_id[:60]!r}", next="leave out --cell-id"
            )
        return found
    raise GrafosError(
        "unsupported", f"This version runs nothing on {provider[:40]!r}", next="use --provider local or aws"
    )


def known_reaches(project: Path, terminal: Terminal) -> list[Reach]:
    """Every scheduler of the fabric that may still live, as this project knows them; troubles are remarks."""
    try:
        return [reach_local(project)]
    except GrafosError as error:
        if error.code != "runtime_not_ready":
            terminal.note(f"note: {error.what} ({error.where})")
        return []
