"""Starts the helper at `dev up`: a process of its own, on a port of loopback that is bound here and handed down."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from grafos_cli.daemons import start_daemon, stop_daemons
from grafos_cli.local_start import LOOPBACK, listen_on_loopback
from grafos_cli.local_state import BEARER_NAME, LocalFabric, dev_folder, write_local_fabric
from grafos_core.paths import write_private

MODULE = "grafos_cli.run_locally"
BEARER_BYTES = 32


def start_helper(project: Path, record: LocalFabric, origins: tuple[str, ...]) -> LocalFabric:
    """The record with a helper that runs: the one that does, unless further ``origins`` are to be let in, else a new
    one with a new bearer. An origin that was let in stays so until `dev down`."""
    folder = dev_folder(project)
    origins = tuple(dict.fromkeys((*record.origins, *origins)))
    if record.helper is not None:
        if record.helper.is_alive and (folder / BEARER_NAME).exists() and list(origins) == record.origins:
            return record
        stop_daemons([record.helper])
    write_private(folder / BEARER_NAME, secrets.token_urlsafe(BEARER_BYTES).encode())
    listening = listen_on_loopback(_port(record.helper_url))
    url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
    fd = listening.fileno()
    arguments = ["--project", str(project), "--state", str(folder / "state"), "--listen-fd", str(fd)]
    arguments += [word for origin in origins for word in ("--origin", origin)]
    try:
        helper = start_daemon("helper", MODULE, arguments, folder / "helper.log", (fd,))
    finally:
        listening.close()
    record = msgspec.structs.replace(record, helper=helper, helper_url=url, origins=list(origins))
    write_local_fabric(project, record)
    return record


def forget_bearer(project: Path) -> None:
    """Whoever still has it has nothing."""
    (dev_folder(project) / BEARER_NAME).unlink(missing_ok=True)


def _port(url: str) -> int:
    """The port of before, so that a page which stayed open finds the helper again; 0 for any."""
    return int(url.rpartition(":")[2] or 0) if url else 0
