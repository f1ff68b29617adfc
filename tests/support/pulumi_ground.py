"""A provider of ours in a process of its own, and Pulumi's real engine, on an emulated AWS.

Machines are states only here, unless a test asks for more: then a cell's parts are declared without its handover.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import boto3
import grpc
import parts
from parts_program import CELL, REGION
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_core.paths import cache_home
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_stacks.pulumi.codec import Properties, decode, encode
from grafos_stacks.pulumi.schema import PLAN

PLACE = {"cellId": CELL, "provider": "aws", "region": REGION}
QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)
CALL_TIMEOUT_S = 60
CANARY = "canary-of-a-secret-key"
"""Stands where the person's cloud credentials stand: it must get nowhere."""


@contextmanager
def emulated(
    folder: Path, *clouds: str, times: LifecycleTimes = QUICK, boots: bool = False
) -> Iterator[EmulatedClouds]:
    """The accounts, with this process's and its children's credentials for them."""
    before = dict(os.environ)
    share_bundles()
    with EmulatedClouds(folder / "clouds", Settings(clouds=clouds, times=times, boots=boots)) as accounts:
        os.environ.update(accounts.environment())
        try:
            yield accounts
        finally:
            os.environ.clear()
            os.environ.update(before)
            sweep_loops()


def sweep_loops() -> None:
    """Pulumi's library leaves the loop of a program that was refused unclosed, with its sockets and what waits in it.
    They are found here, where they were made, and no later test is to be blamed for them."""
    told = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = told


def emulated_aws(
    folder: Path, *, times: LifecycleTimes = QUICK, boots: bool = False
) -> AbstractContextManager[EmulatedClouds]:
    return emulated(folder, "aws", times=times, boots=boots)


def share_bundles() -> None:
    """Lets this test's home find the software that an earlier test of the session built. A benchmark has the person's
    cache."""
    if parts.CACHE_VARIABLE not in os.environ:
        return
    from loopback_only import REFUSALS_VARIABLE

    built = Path(os.environ[REFUSALS_VARIABLE]).parent / "bundles"
    built.mkdir(mode=0o700, exist_ok=True)
    place = cache_home() / "bundles"
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(built)


MACHINES = ("instance", "virtualMachine")
"""What the clouds call a machine."""


def machines(clouds: EmulatedClouds) -> list[str]:
    return [thing.id for thing in clouds.world() if thing.kind in MACHINES]


def open_to(aws: EmulatedClouds) -> list[str]:
    """The addresses that the account lets in."""
    found = boto3.client("ec2", **aws.client_arguments()).describe_security_group_rules()["SecurityGroupRules"]
    return [rule["CidrIpv4"] for rule in found if not rule["IsEgress"]]


def fabric() -> Fabric:
    return open_fabric(SystemClock())


# --- the provider alone -------------------------------------------------------------------------------------------


class Spoken:
    """A provider process and the way to speak to it as an engine does; ``stack`` is who asks."""

    def __init__(self, stack: str = "dev") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grafos_stacks.pulumi", "127.0.0.1:1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.call = provider_pb2_grpc.ResourceProviderStub(self.channel)
        self.stack = stack
        self.call.Handshake(provider_pb2.ProviderHandshakeRequest(engine_address="127.0.0.1:1"))
        self.call.Configure(provider_pb2.ConfigureRequest(acceptSecrets=True))

    def urn(self, kind: str, name: str = "it") -> str:
        return f"urn:pulumi:{self.stack}::grafos::grafos:cell:Cell${kind}::{name}"

    def check(self, kind: str, values: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> list[str]:
        request = provider_pb2.CheckRequest(urn=self.urn(kind), type=kind, news=encode(values), olds=encode(old or {}))
        return [failure.reason for failure in self.call.Check(request, timeout=CALL_TIMEOUT_S).failures]

    def create(self, kind: str, values: Mapping[str, Any], *, preview: bool = False) -> tuple[str, Properties]:
        request = provider_pb2.CreateRequest(urn=self.urn(kind), type=kind, properties=encode(values), preview=preview)
        answer = self.call.Create(request, timeout=CALL_TIMEOUT_S)
        return answer.id, decode(answer.properties)

    def read(self, kind: str, id_: str, state: Properties) -> tuple[str, Properties]:
        request = provider_pb2.ReadRequest(urn=self.urn(kind), type=kind, id=id_, properties=encode(state.values))
        answer = self.call.Read(request, timeout=CALL_TIMEOUT_S)
        return answer.id, decode(answer.properties)

    def diff(self, kind: str, state: Properties, old: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
        request = provider_pb2.DiffRequest(
            urn=self.urn(kind), type=kind, olds=encode(state.values), old_inputs=encode(old), news=encode(new)
        )
        return self.call.Diff(request, timeout=CALL_TIMEOUT_S)

    def update(
        self, kind: str, id_: str, state: Properties, new: Mapping[str, Any], *, preview: bool = False
    ) -> Properties:
        request = provider_pb2.UpdateRequest(
            urn=self.urn(kind), type=kind, id=id_, olds=encode(state.values), news=encode(new), preview=preview
        )
        return decode(self.call.Update(request, timeout=CALL_TIMEOUT_S).properties)

    def delete(self, kind: str, id_: str, state: Properties) -> None:
        request = provider_pb2.DeleteRequest(urn=self.urn(kind), type=kind, id=id_, properties=encode(state.values))
        self.call.Delete(request, timeout=CALL_TIMEOUT_S)

    def plan(self, **inputs: Any) -> Properties:
        return self.create(PLAN, {**PLACE, "ttl": "2h", **inputs})[1]

    def part(self, kind: str, role: str, plan: Properties, **needs: str) -> tuple[str, Properties]:
        inputs = {**PLACE, "role": role, "key": plan.values["keys"][role], "needs": needs}
        return self.create(f"grafos:cell:{kind}", inputs)

    def whole(self, plan: Properties) -> dict[str, tuple[str, Properties]]:
        """All parts of a cell, up to its machine."""
        made = {"network": self.part("Network", "network", plan), "gateway": self.part("Gateway", "gateway", plan)}
        both = {"network": made["network"][0], "gateway": made["gateway"][0]}
        made["gateway-attachment"] = self.part("GatewayAttachment", "gateway-attachment", plan, **both)
        made["route"] = self.part("Route", "route", plan, **both)
        made["subnet"] = self.part("Subnet", "subnet", plan, network=both["network"])
        made["firewall"] = self.part("Firewall", "firewall", plan, network=both["network"])
        firewall = made["firewall"][0]
        made["firewall-rule"] = self.part("FirewallRule", "firewall-rule", plan, firewall=firewall)
        made["machine"] = self.part("Machine", "machine", plan, subnet=made["subnet"][0], firewall=firewall)
        return made

    def close(self) -> None:
        self.channel.close()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


# --- the engine ---------------------------------------------------------------------------------------------------


def lacks_engine() -> str:
    """Why it is not there, with the cure; nothing when it is."""
    return str(parts.lack("pulumi"))


def engine_in_path() -> None:
    """Puts the part's engine where grafos looks for it."""
    os.environ["PATH"] = f"{parts.table().pulumi_engine().parent}{os.pathsep}{os.environ['PATH']}"
