"""The front of the emulated Google Cloud: Compute Engine, what is asked beside it, and the machines' metadata.

Compute Engine is at ``/compute/v1/…``, as on its own host; Google's other services are below ``/gcp/<service>/…``.
No credential is taken: a request that carries one is refused, so that a real one never goes unnoticed to an emulator.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from grafos_core.emulated import EMULATED_PROJECT
from grafos_emulators import imds
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.attesting import GcpSigner, key_of_this_process
from grafos_emulators.census import Thing
from grafos_emulators.faults import Fault
from grafos_emulators.gate import CloudCall, Gate
from grafos_emulators.gcp import census, metadata, services
from grafos_emulators.gcp.catalog import host_architecture
from grafos_emulators.gcp.errors import GceRefusal, backend_error, internal_error, not_logged_in
from grafos_emulators.gcp.project import API_PATH, Project, region_of, scope_of
from grafos_emulators.gcp.scheduling import means_spot
from grafos_emulators.gcp.troubles import refusal_for, trouble_for
from grafos_emulators.http import Request, Response
from grafos_emulators.world import World

if TYPE_CHECKING:
    from grafos_emulators.gcp.calls import Route
    from grafos_emulators.gcp.compute import Compute

ENDPOINT_VARIABLE = "GRAFOS_GCP_ENDPOINT"
PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
DUMMY_AUTHORIZATION = "Bearer emulated"  # for a client that cannot go without; nobody's token
LOAD_LIMIT_S = 30.0
DEFAULT_REGION = "us-central1"
_READS = frozenset({"projects.testIamPermissions"})  # a POST that changes nothing


class GcpFront:
    """One project's APIs and metadata service. ``project`` is what a test may change."""

    provider = "gcp"

    def __init__(self, world: World, network: LoopbackNetwork, gate: Gate) -> None:
        self.project = Project(world=world, addresses=network, architecture=host_architecture())
        self._gate = gate
        self._compute: Compute | None = None
        self._signer: GcpSigner | None = None
        self._loaded = threading.Event()
        self._numbers = itertools.count(1)

    def load(self) -> None:
        """Reads the discovery document, a fraction of a second."""
        from grafos_emulators.gcp.compute import Compute

        self._compute = Compute(self.project)
        self._signer = GcpSigner(self.project.world.clock, key_of_this_process("gcp"))
        self._loaded.set()

    def identity_roots(self) -> Mapping[str, str]:
        return self._signer.roots if self._signer is not None else {}

    def close(self) -> None:
        """Nothing is held that the world does not end."""

    def environment(self, endpoint: str) -> dict[str, str]:
        return {
            "CLOUDSDK_COMPUTE_REGION": DEFAULT_REGION,
            ENDPOINT_VARIABLE: endpoint,
            PROJECT_VARIABLE: EMULATED_PROJECT,
        }

    def serve_at(self, endpoint: str) -> None:
        self.project.endpoint = endpoint

    def things(self) -> Iterable[Thing]:
        return census.things(self.project)

    def takes(self, request: Request) -> bool:
        if imds.is_asked(request):
            with self.project.world.lock:
                return imds.asked_of(request)[0] in self.project.launched
        return request.path.startswith((API_PATH, services.PREFIX))

    def answer(self, request: Request) -> Response:
        if imds.is_asked(request):
            self.project.world.catch_up()
            return metadata.answer(self.project, request, self._signer)
        if not self._loaded.wait(LOAD_LIMIT_S) or self._compute is None:
            return backend_error(503).response()
        compute, route = self._compute, None
        if request.path.startswith(API_PATH):
            route = compute.route(request)
        call = self._seen(request, route)

        def act(fault: Fault | None) -> Response:
            try:
                _refuse_credentials(request)
                if not request.path.startswith(API_PATH):
                    return services.answer(self.project, request)
                if route is None:
                    raise GceRefusal(404, "notFound", f"The requested URL {request.path} was not found on this server.")
                return compute.answer(route, request, trouble_for(self.project, call, fault))
            except GceRefusal as refusal:
                return refusal.response()
            except Exception as bug:  # noqa: BLE001  whatever it is, the client gets an answer that names it
                return internal_error(f"the emulator failed: {type(bug).__name__}: {bug}").response()

        def refuse(fault: Fault) -> Response:
            return refusal_for(self.project, call, fault).response()

        return self._gate.pass_through(call, act, refuse, code_in)

    def _seen(self, request: Request, route: Route | None) -> CloudCall:
        """The call as gate, journal and fault rules see it."""
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        request_id = f"gcp-{next(self._numbers)}"
        if route is None:
            service, operation = "compute", f"{request.method} {request.path}"
            if request.path.startswith(services.PREFIX):
                service, operation = services.operation_of(request)
            mutating = request.method != "GET" and operation not in _READS
            return CloudCall("gcp", service, operation, "", mutating, request_id)
        method, values = route
        body, launches = _document(request.body), method.collection == "instances" and method.verb == "insert"
        scope = f"zones/{values['zone']}" if "zone" in values else f"regions/{values.get('region', '')}"
        return CloudCall(
            provider="gcp",
            service="compute",
            operation=f"{method.collection}.{method.verb}",
            region=region_of(scope_of(scope)),
            mutating=method.mutating,
            request_id=request_id,
            zone=values.get("zone", ""),
            token=query.get("requestId", ""),
            launches=launches,
            spot=launches and isinstance(asked := body.get("scheduling"), dict) and means_spot(asked),
            fields=_fields(values, body),
        )


def code_in(response: Response) -> str:
    """The reason of an HTTP error, ``ok`` for any other answer."""
    if response.status < 400:
        return "ok"
    return str(msgspec.json.decode(response.body)["error"]["errors"][0]["reason"])


def _document(body: bytes) -> dict[str, Any]:
    """The body's object; one that cannot be read is refused later, by who carries the call out."""
    try:
        asked: Any = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        asked = {}
    return asked if isinstance(asked, dict) else {}


def _fields(values: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """What fault rules may match: the name of what is made, read or changed, where it is, and a machine's type."""
    named = [value for name, value in values.items() if name not in {"project", "zone", "region"}]
    return {
        **values,
        "name": str(given.get("name") or "") or (named[-1] if named else ""),
        "machine_type": str(given.get("machineType") or "").rpartition("/")[2],
    }


def _refuse_credentials(request: Request) -> None:
    given = request.headers.get("authorization", DUMMY_AUTHORIZATION)
    query = parse_qs(request.query)
    if given != DUMMY_AUTHORIZATION or "x-goog-api-key" in request.headers or {"key", "access_token"} & set(query):
        raise not_logged_in("an emulator takes no credentials: whatever this one is, it was not meant for it")
