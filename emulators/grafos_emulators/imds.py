"""Where a machine's metadata service is: ``/imds/<machine-id>/…`` on the emulator's own port.

A real machine asks a link-local address, and the cloud knows it by where it asks from. Here its id is in the path, and
an environment variable tells the machine which path is its own. What is below the path is each cloud's.
"""

from __future__ import annotations

from grafos_emulators.http import Request

PREFIX = "/imds/"
VARIABLE = "GRAFOS_METADATA_ENDPOINT"  # where no SDK has a variable of its own for it


def endpoint_of(machine_id: str, endpoint: str) -> str:
    """The base address of a machine's metadata; ``endpoint`` is the emulator's."""
    return f"{endpoint}{PREFIX}{machine_id}/"


def is_asked(request: Request) -> bool:
    return request.path.startswith(PREFIX)


def asked_of(request: Request) -> tuple[str, str]:
    """The machine whose metadata a request asks for, and the path below its own."""
    machine_id, _, path = request.path.removeprefix(PREFIX).partition("/")
    return machine_id, path
