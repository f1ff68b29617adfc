"""`grafos fabric backup` and `grafos fabric restore`: what the orchestrator keeps, in one sealed file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from grafos_cli.taught import taught, terminal_of

BACKUP = taught(
    examples=("grafos fabric backup /media/stick", "grafos fabric backup orchestrator.backup --json"),
    next="grafos fabric up --restore FILE",
)
RESTORE = taught(
    examples=(
        "grafos fabric restore orchestrator.backup",
        "grafos fabric restore orchestrator.backup --folder /srv/grafos --json",
    ),
    next="grafos fabric claim https://127.0.0.1:8443",
)


def backup(
    ctx: typer.Context,
    place: Annotated[
        str, typer.Argument(metavar="FILE|DIR", help="where to write it; in a folder under a name by date")
    ],
) -> None:
    """Writes what the orchestrator keeps into one file, while it goes on: keys, state, and what runs under way need.

    All of it is of one moment. The file is sealed with the fabric's key, and 0600: without that key it opens to nobody,
    so keep a copy of the key elsewhere (grafos fabric key export). Whoever has both can be the orchestrator. An
    orchestrator on PostgreSQL has its state there: back that up with pg_dump, too.
    """
    from grafos_cli.fabric import open_default
    from grafos_cli.steps import show_steps
    from grafos_core.backup_archive import POSTGRESQL, about_in
    from grafos_core.errors import GrafosError
    from grafos_core.sealed_backup import keep_sealed
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    home = OrchestratorHome(fabric)
    file = Path(place)
    if file.is_dir():
        file /= time.strftime(f"{home.known().name}-%Y-%m-%d-%H%M%S.backup", time.gmtime())
    if file.exists():
        raise GrafosError("config_invalid", "there is such a file already", where=str(file), next="name another one")
    with show_steps(terminal, waiting="copying"), home.client(OPERATOR) as client:
        archive = client.backup()
    about = about_in(archive)
    keep_sealed(fabric, archive, file)
    size_bytes = file.stat().st_size
    text = f"Wrote what {about.name} keeps to {file} ({size_bytes / 1e6:.1f} MB, 0600, sealed with the fabric's key).\n"
    if about.store == POSTGRESQL:
        text += "Its state is in PostgreSQL, and not in this file: pg_dump --format custom --schema grafos URL\n"
    document = {
        "file": str(file),
        "size_bytes": size_bytes,
        "orchestrator": about.name,
        "version": about.version,
        "store": about.store,
        "made_at": about.made_at,
    }
    terminal.emit(document, text)


def restore(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="what grafos fabric backup wrote")],
    folder: Annotated[
        str, typer.Option(metavar="DIR", help="where the orchestrator shall keep its state and its keys")
    ] = "orchestrator",
) -> None:
    """Unpacks a backup for an orchestrator on a machine of yours: its folders --state and --trust, as they were.

    Start it with them as grafos fabric init printed it, at its old address or with another --bind, and claim it again
    there: it is known by its CA. On a machine that grafos makes: grafos fabric up --restore FILE.
    """
    import tempfile

    from grafos_cli.fabric import open_default
    from grafos_core.backup_archive import unpack_backup
    from grafos_core.errors import GrafosError
    from grafos_core.paths import private_folder
    from grafos_core.sealed_backup import open_sealed

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    target = Path(folder)
    if any((target / name).exists() for name in ("state", "trust")):
        raise GrafosError(
            "config_invalid",
            "there are folders of an orchestrator already",
            where=str(target),
            next="name another place, or move those away first: --folder DIR",
        )
    archive = open_sealed(fabric, Path(file))
    try:
        private_folder(target)
        with tempfile.NamedTemporaryFile(dir=target) as plain:  # 0600, and gone at the end of the block
            plain.write(archive)
            plain.flush()
            about = unpack_backup(Path(plain.name), target)
    except OSError as error:
        raise GrafosError(
            "store_failed", "the backup could not be unpacked", where=str(target), why=str(error)
        ) from error
    private_folder(target / "state")
    text = (
        f"Unpacked {about.name} into {target}/state and {target}/trust. Start it with these:\n"
        f"  grafos-scheduler --mode orchestrator --auth-mode mtls+token --bind ADDR:PORT --fabric {about.fabric} "
        f"--state {target}/state --trust {target}/trust\nThen:  grafos fabric claim https://ADDR:PORT\n"
    )
    document = {
        "orchestrator": about.name,
        "folder": str(target),
        "version": about.version,
        "store": about.store,
        "made_at": about.made_at,
    }
    terminal.emit(document, text)
