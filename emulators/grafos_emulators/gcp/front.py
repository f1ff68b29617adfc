"""The front of the emulated Google Cloud: Compute Engine, what is asked beside it, and the machines' metadata.

Compute Engine is at ``/compute/v1/…``, as on its own host; Google's other services are below ``/gcp/<service>/…``.
No credential is taken: a request that carries one is refused, so that a real one never goes unnoticed to an emulator.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from grafos_core.emulated import EMULATED_PROJECT
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.gcp import metadata, services
from grafos_emulators.gcp.catalog import host_architecture
from grafos_emulators.gcp.errors import GceRefusal, not_logged_in
from grafos_emulators.gcp.project import API_PATH, Project
from grafos_emulators.http import Request, Response
from grafos_emulators.world import World

if TYPE_CHECKING:
    from grafos_emulators.gcp.compute import Compute

ENDPOINT_VARIABLE = "GRAFOS_GCP_ENDPOINT"
DUMMY_AUTHORIZATION = "Bearer emulated"  # for a client that cannot go without; nobody's token
BILLABLE_KINDS = frozenset({"disk", "address"})


class GcpFront:
    """One project's APIs and metadata service."""

    provider = "gcp"

    def __init__(self, world: World, network: LoopbackNetwork, gate: Any = None) -> None:
        self.project = Project(world=world, addresses=network, architecture=host_architecture())
        self._gate = gate
        self._compute: Compute | None = None
        self._numbers = itertools.count(1)

    def load(self) -> None:
        """Reads the discovery document, a fraction of a second."""
        from grafos_emulators.gcp.compute import Compute

        self._compute = Compute(self.project)

    def close(self) -> None: ...

    def environment(self, endpoint: str) -> dict[str, str]:
        """The variables that send a client here. Machines and links are told the same address from now on."""
        return {ENDPOINT_VARIABLE: endpoint, "GOOGLE_CLOUD_PROJECT": EMULATED_PROJECT}

    def takes(self, request: Request) -> bool:
        if request.path.startswith(metadata.PREFIX):
            with self.project.world.lock:
                return metadata.owner_of(self.project, request.path) is not None
        return request.path.startswith((API_PATH, services.PREFIX))

    def answer(self, request: Request) -> Response:
        if request.path.startswith(metadata.PREFIX):
            self.project.world.catch_up()
            return metadata.answer(self.project, request)
        try:
            _refuse_credentials(request)
            if request.path.startswith(services.PREFIX):
                return services.answer(self.project, request)
            assert self._compute is not None
            route = self._compute.route(request)
            if route is None:
                raise GceRefusal(404, "notFound", f"The requested URL {request.path} was not found on this server.")
            from grafos_emulators.gcp.calls import Trouble

            self.project.world.catch_up()
            return self._compute.answer(route, request, Trouble())
        except GceRefusal as refusal:
            return refusal.response()


def _refuse_credentials(request: Request) -> None:
    given = request.headers.get("authorization", DUMMY_AUTHORIZATION)
    if given != DUMMY_AUTHORIZATION or "x-goog-api-key" in request.headers:
        raise not_logged_in("an emulator takes no credentials: whatever this one is, it was not meant for it")
