"""`grafos about`: what is installed here and where it looks, for a report of trouble. No secret is in it."""

from __future__ import annotations

import os
from typing import Any

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of

app = new_command_app()

LIBRARIES = ("wasmtime", "typer", "msgspec", "cryptography", "boto3", "google-cloud-compute", "azure-mgmt-compute")
"""Those whose version most often explains a difference."""
ENDPOINTS = ("AWS_ENDPOINT_URL", "GRAFOS_AZURE_ENDPOINT", "GRAFOS_GCP_ENDPOINT")


@app.command(
    cls=taught(examples=("grafos about", "grafos about --json > about.json"), next="grafos doctor"),
)
def about(ctx: typer.Context) -> None:
    """Shows versions, the system, endpoints, folders and settings, without secrets; asks nobody."""
    from grafos_cli.failures import redacted
    from grafos_cli.settings import settle
    from grafos_cli.tables import facts

    terminal = terminal_of(ctx)
    settings = [
        {"name": one.setting.name, "value": _without_login(one.value), "origin": one.origin}
        for one in settle().values()
    ]
    document = {
        "versions": _versions(),
        "system": _system(),
        "endpoints": {name: _without_login(where) for name, where in _endpoints().items()},
        "folders": {name: redacted(place) for name, place in _folders().items()},
        "settings": settings,
    }
    told = [(name, text) for part in list(document)[:-1] for name, text in _pairs(document[part])]
    told += [(one["name"], f"{one['value'] or '-'} ({one['origin']})") for one in settings]
    terminal.emit(document, facts(told, terminal))


def _pairs(part: Any) -> list[tuple[str, str]]:
    return list(part.items())


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from grafos_cli import version as own

    found = {"grafos": own(), "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _system() -> dict[str, str]:
    import platform

    return {"os": platform.platform(), "machine": platform.machine(), "cpus": str(os.cpu_count() or "unknown")}


def _endpoints() -> dict[str, str]:
    """Who would be asked: the local fabric of this project, and clouds that a variable leads elsewhere."""
    from grafos_cli.local_state import read_local_fabric
    from grafos_cli.project import project_folder
    from grafos_core.errors import GrafosError

    try:
        record = read_local_fabric(project_folder())
        local = record.scheduler_url if record else "none"
    except GrafosError as error:
        local = f"unknown ({error.code})"
    return {"local fabric": local} | {name: os.environ[name] for name in ENDPOINTS if os.environ.get(name)}


def _folders() -> dict[str, str]:
    from grafos_cli.settings import user_file
    from grafos_core import paths

    return {
        "own settings": str(user_file()),
        "data": str(paths.data_home()),
        "state": str(paths.state_home()),
        "cache": str(paths.cache_home()),
    }


def _without_login(text: str) -> str:
    """An address without the name and password that may stand in it, and without its query."""
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if not parts.scheme or not parts.netloc:
        return text
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
