"""The front of the emulated Azure: ARM, retail prices, boot diagnostics and instance metadata on one port."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_emulators import imds
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.attesting import AzureSigner, key_of_this_process
from grafos_emulators.azure import calls, naming
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, code_in, render
from grafos_emulators.census import Thing
from grafos_emulators.faults import Fault
from grafos_emulators.gate import Gate
from grafos_emulators.http import Request, Response
from grafos_emulators.world import World

if TYPE_CHECKING:
    from grafos_emulators.azure.metadata import MetadataService
    from grafos_emulators.azure.router import Router

LOAD_LIMIT_S = 30.0  # loading the SDK's models takes two or three seconds
DEFAULT_LOCATION = "eastus"
ARM_PREFIXES = ("/subscriptions", "/providers", "/azure/")


class AzureFront:
    """One subscription's ARM and what stands beside it. ``account`` may be changed by tests, see there."""

    provider = "azure"

    def __init__(self, world: World, network: LoopbackNetwork, gate: Gate) -> None:
        self.account = AzureAccount(world, network)
        self._gate = gate
        self._loaded = threading.Event()
        self._router: Router | None = None
        self._metadata: MetadataService | None = None
        self._signer: AzureSigner | None = None

    def takes(self, request: Request) -> bool:
        if imds.is_asked(request):
            with self.account.world.lock:
                return imds.asked_of(request)[0] in self.account.launched
        return request.path.lower().startswith(ARM_PREFIXES)

    def load(self) -> None:
        """Loads the SDK's models; calls that came earlier wait for it."""
        from grafos_emulators.azure.metadata import MetadataService
        from grafos_emulators.azure.router import Router

        self._router = Router(self.account)
        self._signer = AzureSigner(self.account.world.clock, key_of_this_process("azure"))
        self._metadata = MetadataService(self.account, self._router.machines, self._signer)
        self._loaded.set()

    def identity_roots(self) -> Mapping[str, str]:
        return self._signer.roots if self._signer is not None else {}

    def close(self) -> None:
        """Nothing is held that the world does not end."""

    def environment(self, endpoint: str) -> dict[str, str]:
        """The variables that send grafos' own connector, or a child process, here."""
        return {
            "AZURE_DEFAULTS_LOCATION": DEFAULT_LOCATION,
            "AZURE_SUBSCRIPTION_ID": EMULATED_SUBSCRIPTION,
            "GRAFOS_AZURE_ENDPOINT": endpoint,
        }

    def serve_at(self, endpoint: str) -> None:
        """The emulator's own address, which answers and machines are told."""
        self.account.serve_at(endpoint)

    def things(self) -> Iterable[Thing]:
        if self._router is None:
            return ()
        from grafos_emulators.azure import census

        return census.things(self.account, self._router.kinds)

    def answer(self, request: Request) -> Response:
        if not self._loaded.wait(LOAD_LIMIT_S) or self._router is None or self._metadata is None:
            return render(ArmError(503, "ServiceUnavailable", "the emulated Azure is not loaded yet"))
        if imds.is_asked(request):
            self.account.world.catch_up()
            return self._metadata.answer(request)
        if request.path.startswith("/azure/"):
            self.account.world.catch_up()
            return self._beside_arm(request)
        return self._arm(request, self._router)

    def _beside_arm(self, request: Request) -> Response:
        """What Azure serves at other host names, without ARM's tokens and versions."""
        from grafos_emulators.azure import retail, serial, uploads
        from grafos_emulators.azure.machines import SERIAL_PREFIX

        if request.path == retail.PATH:
            return retail.answer(request, self.account.endpoint)
        if request.path.startswith(SERIAL_PREFIX):
            return serial.answer(self.account, request)
        if request.path.startswith(uploads.PREFIX):
            return uploads.take_pages(self.account, request)
        return Response(404, f"the emulated Azure has no {request.path}\n".encode())

    def _arm(self, request: Request, router: Router) -> Response:
        call = calls.read(request)
        with self.account.world.lock:
            seen = naming.cloud_call(call, self.account.store)

        def act(fault: Fault | None) -> Response:
            with self.account.world.lock:
                try:
                    router.check(call)
                    return _with_ids(call, router.answer(call, fault))
                except ArmError as refusal:
                    return _with_ids(call, render(refusal))
                except Exception as bug:  # noqa: BLE001  whatever it is, the client gets an answer that names it
                    what = f"the emulator failed: {type(bug).__name__}: {bug}"
                    return _with_ids(call, render(ArmError(500, "InternalServerError", what)))

        def refuse(fault: Fault) -> Response:
            from grafos_emulators.azure.faulted import sync_error

            error = sync_error(fault, seen.region, seen.fields["machine_type"])
            return _with_ids(call, render(error))

        return self._gate.pass_through(seen, act, refuse, code_in)


def _with_ids(call: ArmCall, response: Response) -> Response:
    ids = {"x-ms-request-id": call.request_id, "x-ms-correlation-request-id": call.request_id}
    return Response(response.status, response.body, {**ids, **response.headers})
