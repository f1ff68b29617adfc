"""The helper as a process: `python -m grafos_cli.run_locally`, started by `grafos dev up`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn

from grafos_cli.local_state import BEARER_NAME
from grafos_cli.run_locally.app import Application
from grafos_cli.run_locally.guard import Door, check_origins
from grafos_cli.run_locally.work import Project
from grafos_core.errors import GrafosError
from grafos_core.program import CommandLine, log_to_stderr, run_program

CONNECTIONS_MAX = 64
SHUT_DOWN_S_MAX = 1
"""What requests under way get once the process was told to end; a run that they wait for goes on without them."""


def main(arguments: Sequence[str]) -> None:
    """Serves one project on an inherited socket until SIGTERM."""
    line = CommandLine(prog="python -m grafos_cli.run_locally", description=__doc__)
    line.add_argument("--project", required=True, type=Path)
    line.add_argument("--state", required=True, type=Path, help="by it `dev down` finds a helper that no record names")
    line.add_argument("--listen-fd", required=True, type=int)
    line.add_argument("--origin", action="append", default=[], help="a page that may ask, beside the helper's own")
    options = line.parse_args(arguments)
    log_to_stderr()
    listening = socket.socket(fileno=options.listen_fd)
    address, port = listening.getsockname()
    bearer = _bearer(options.state.parent / BEARER_NAME)
    door = Door(f"{address}:{port}", bearer, check_origins(options.origin))
    config = uvicorn.Config(
        Application(door, Project(options.project)),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=SHUT_DOWN_S_MAX,
    )
    asyncio.run(_serve(uvicorn.Server(config), listening))


def _bearer(file: Path) -> str:
    """What every request has to bear. A project may be moved before its helper has begun; nothing is made there."""
    try:
        return file.read_text().strip()
    except FileNotFoundError as error:
        raise GrafosError(
            "credentials_missing", "the project was moved or removed", where=str(file), next="grafos dev up"
        ) from error


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """Each request may wait in a thread for a run to end, and must not keep another from being answered."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CONNECTIONS_MAX))
    await server.serve(sockets=[listening])


if __name__ == "__main__":
    run_program(main)
