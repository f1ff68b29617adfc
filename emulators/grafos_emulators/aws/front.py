"""The front of the emulated AWS: every request comes in here, and goes to the service that its signature names."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from grafos_emulators import imds
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.attesting import AwsSigner, key_of_this_process
from grafos_emulators.aws import calls, ebs, iam, pricing, quotas, sts
from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.census import things
from grafos_emulators.aws.errors import AwsRefusalError, code_in, not_emulated, render
from grafos_emulators.aws.faulted import Place, is_spot, refusal_of
from grafos_emulators.aws.host import host_architecture
from grafos_emulators.aws.metadata import MetadataService
from grafos_emulators.census import Thing
from grafos_emulators.credentials import client_environment
from grafos_emulators.faults import Fault
from grafos_emulators.gate import CloudCall, Gate
from grafos_emulators.http import Request, Response
from grafos_emulators.world import World

if TYPE_CHECKING:
    from grafos_emulators.aws.ec2 import Ec2

LOAD_LIMIT_S = 30.0  # loading takes a second or two; an SDK's own patience is 60


class AwsFront:
    """One account's API and metadata service."""

    provider = "aws"

    def __init__(self, world: World, network: LoopbackNetwork, gate: Gate) -> None:
        self.account = Account(world=world, network=network, architecture=host_architecture())
        self._gate = gate
        self._metadata: MetadataService | None = None
        self._signer: AwsSigner | None = None
        self._ec2: Ec2 | None = None
        self._loaded = threading.Event()
        self._services: dict[str, Callable[[AwsCall], Response]] = {
            "ec2": self._ask_ec2,
            "ebs": self._ask_ebs,
            "iam": lambda call: iam.answer(self.account, call),
            "sts": lambda call: sts.answer(self.account, call),
            "pricing": pricing.answer,
            "servicequotas": lambda call: quotas.answer(self.account, call),
        }

    def takes(self, request: Request) -> bool:  # noqa: ARG002  whatever no other cloud takes
        return True

    def things(self) -> Iterable[Thing]:
        return things(self._ec2.regions if self._ec2 else {})

    def environment(self, endpoint: str) -> dict[str, str]:
        return client_environment(endpoint)

    def serve_at(self, endpoint: str) -> None:
        self.account.endpoint = endpoint

    def load(self) -> None:
        """Makes EC2 ready to answer; calls that came earlier wait for it. Call it once, in the main thread, before
        anything depends on the environment: for that time nobody's AWS settings are in it."""
        self._ec2 = _load_ec2(self.account)
        clock = self.account.world.clock
        self._signer = AwsSigner(sorted(self._ec2.region_names), clock.now(), key_of_this_process("aws"))
        self._metadata = MetadataService(self.account, clock, self._signer)
        self._loaded.set()

    def identity_roots(self) -> Mapping[str, str]:
        return self._signer.roots if self._signer is not None else {}

    def close(self) -> None:
        if self._ec2 is not None:
            self._ec2.close()

    def answer(self, request: Request) -> Response:
        if imds.is_asked(request):
            if self._metadata is None:
                return Response(404)  # no machine was made yet
            self.account.world.catch_up()
            return self._metadata.answer(request)
        call = calls.read(request)

        def act(fault: Fault | None) -> Response:
            return self._answered(replace(call, fault=fault))

        def refuse(fault: Fault) -> Response:
            place = self._ec2.place_of(call) if self._ec2 is not None and call.service == "ec2" else Place()
            return self._refused(call, refusal_of(fault, call, self.account, place))

        return self._gate.pass_through(seen(call), act, refuse, code_in)

    def _answered(self, call: AwsCall) -> Response:
        try:
            calls.check_access_key(call.request)
            iam.check_allowed(self.account, call)
            service = self._services.get(call.service)
            if service is None:
                raise not_emulated(f"the service {call.service}")
            return service(call)
        except AwsRefusalError as refusal:
            return self._refused(call, refusal)
        except Exception as bug:  # noqa: BLE001  whatever it is, the client gets an answer and the journal a line
            what = f"the emulator failed: {type(bug).__name__}: {bug}"
            return self._refused(call, AwsRefusalError("InternalError", what, 500))

    def _ask_ec2(self, call: AwsCall) -> Response:
        if not self._loaded.wait(LOAD_LIMIT_S) or self._ec2 is None:
            raise AwsRefusalError("Unavailable", "the emulated EC2 is not loaded yet", 503)
        return self._ec2.answer(call)

    def _ask_ebs(self, call: AwsCall) -> Response:
        if not self._loaded.wait(LOAD_LIMIT_S) or self._ec2 is None:
            raise AwsRefusalError("ServiceUnavailable", "the emulated EBS is not loaded yet", 503)
        ec2 = self._ec2
        return self.account.tokens.once(call, lambda: ebs.answer(ec2, call), lambda _: None)

    def _refused(self, call: AwsCall, refusal: AwsRefusalError) -> Response:
        return render(refusal, call.service, call.request_id, json_protocol=call.json_protocol)


def seen(call: AwsCall) -> CloudCall:
    """The call as gate, journal and fault rules see it; its fields are the parameters as they were sent."""
    given = call.parameters
    launches = call.action == "RunInstances"
    also = {"machine_type": str(given.get("InstanceType", "")), "name": _name_tag(given)}
    return CloudCall(
        provider="aws",
        service=call.service,
        operation=call.action,
        region=call.region,
        mutating=call.mutating,
        request_id=call.request_id,
        zone=str(given.get("Placement.AvailabilityZone", "")),
        token=call.token,
        dry_run=call.dry_run,
        begins=launches,  # nothing else of EC2's is answered before it is known whether it can be done
        launches=launches,
        spot=is_spot(call),
        fields={**given, **also},
    )


def _name_tag(given: Mapping[str, Any]) -> str:
    key = next((name for name, value in given.items() if name.endswith(".Key") and value == "Name"), "")
    return str(given.get(key.removesuffix("Key") + "Value", ""))


_loading = threading.Lock()


def _load_ec2(account: Account) -> Ec2:
    """Moto is imported with the first account; it takes a second, and reads AWS settings if there are any."""
    with _loading, _without_aws_settings():
        from grafos_emulators.aws.ec2 import Ec2

        return Ec2(account)


@contextlib.contextmanager
def _without_aws_settings() -> Iterator[None]:
    """While moto is imported, nobody's AWS profile, settings or credentials can be found."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "BOTO_"))}
    for name in kept:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    try:
        yield
    finally:
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            del os.environ[name]
        os.environ.update(kept)
