"""Emulated clouds in the calling process.

    with EmulatedClouds(tmp_path) as clouds:
        client = boto3.client("ec2", **clouds.client_arguments())
        …
        assert clouds.world() == ()

Their machines run under ``state_dir``, and end with them. Several can run in one process; none sees another's.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from grafos_core.clock import Clock, SystemClock
from grafos_emulators import attesting, clocks, control, state
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.aws.account import DEFAULT_VCPU_LIMIT, Account
from grafos_emulators.boot.driver import Driver, NoDriver
from grafos_emulators.boot.process import ProcessDriver
from grafos_emulators.capacity import Capacity, Limit
from grafos_emulators.census import Thing
from grafos_emulators.clouds import CLOUDS, PROCESSES, QEMU
from grafos_emulators.control import Control
from grafos_emulators.credentials import ACCESS_KEY_ID, DEFAULT_REGION, SECRET_ACCESS_KEY
from grafos_emulators.faults import FaultPlan, FaultRule
from grafos_emulators.front import open_front
from grafos_emulators.gate import Gate, Hook
from grafos_emulators.http import DropConnectionError, Request, Response, Server
from grafos_emulators.journal import Call, Journal
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_emulators.world import World

if TYPE_CHECKING:
    from grafos_emulators.aws.front import AwsFront
    from grafos_emulators.azure.account import AzureAccount
    from grafos_emulators.azure.front import AzureFront
    from grafos_emulators.gcp.front import GcpFront
    from grafos_emulators.gcp.project import Project


@dataclass(frozen=True)
class Settings:
    """How an emulator behaves. ``clouds`` are served, no others are loaded. ``boots``: machines run their user data;
    without, they are states only. ``boots_disks``: those that were made from a published image boot it, under QEMU.
    ``seed`` decides what fault rules leave to chance."""

    clouds: tuple[str, ...] = CLOUDS
    times: LifecycleTimes = field(default_factory=LifecycleTimes)
    boots: bool = True
    boots_disks: bool = False
    vcpu_limit: int = DEFAULT_VCPU_LIMIT
    seed: int = 0


class EmulatedClouds:
    """Serves from ``start`` (or ``with``) until ``close``. One emulator for each ``state_dir``: a second is refused.

    ``faults`` takes rules for what goes wrong.
    """

    def __init__(self, state_dir: Path, settings: Settings | None = None, *, clock: Clock | None = None) -> None:
        settings, clock = settings or Settings(), clock or SystemClock()
        self._state_dir, self._boots_disks = state_dir, settings.boots_disks
        with contextlib.ExitStack() as undo:  # what is taken is given back when a later step fails
            self._lock = state.take(state_dir)
            undo.callback(os.close, self._lock)
            driver: Driver = (
                ProcessDriver(state_dir, clock, boots_disks=settings.boots_disks) if settings.boots else NoDriver()
            )
            self._world = World(clock=clock, times=settings.times, driver=driver)
            self._network = LoopbackNetwork()
            undo.callback(self._network.close)
            self._open_clouds(settings)
            undo.pop_all()
        self._plugged = True
        self._closed = False

    def _open_clouds(self, settings: Settings) -> None:
        self._journal = Journal()
        self.faults = FaultPlan(random.Random(settings.seed))  # noqa: S311  a seed that gives the same run again
        self._gate = Gate(self._world, self._journal, self.faults)
        # AWS takes what no other takes, so it is asked last.
        order = sorted(settings.clouds, key=lambda cloud: cloud == "aws")
        self._fronts = {cloud: open_front(cloud, self._world, self._network, self._gate) for cloud in order}
        if "aws" in self._fronts:
            self.aws.vcpu_limit = settings.vcpu_limit
        readings = {
            "health": self._health,
            "journal": self.journal,
            "world": self.world,
            "machines": self._world.states,
            "faults": self.faults.rules,
            "room": self.capacity.limits,
        }
        changes = {
            "set": lambda body: self.set(msgspec.json.decode(body, type=dict[str, float])),
            "faults": self._add_fault,
            "faults/clear": lambda _: {"cleared": self.faults.clear()},
            "clock": self._advance,
            "room": self._limit_room,
            "room/clear": lambda _: {"cleared": self.capacity.clear()},
        }
        self._control = Control(readings, changes)
        self._server = Server(self._answer)
        self._loaded: set[str] = set()
        self._loading = threading.Lock()
        for front in self._fronts.values():
            front.serve_at(self._server.endpoint)

    @property
    def endpoint(self) -> str:
        return self._server.endpoint

    @property
    def clouds(self) -> tuple[str, ...]:
        """The clouds that are served."""
        return tuple(sorted(self._fronts))

    @property
    def aws(self) -> Account:
        """The AWS account and what a test may change in it."""
        return cast("AwsFront", self._fronts["aws"]).account

    @property
    def azure(self) -> AzureAccount:
        """The Azure subscription and what a test may change in it."""
        return cast("AzureFront", self._fronts["azure"]).account

    @property
    def gcp(self) -> Project:
        """The Google Cloud project and what a test may change in it."""
        return cast("GcpFront", self._fronts["gcp"]).project

    @property
    def capacity(self) -> Capacity:
        """Where there is no room for machines: of all clouds."""
        return self._world.capacity

    @property
    def account_id(self) -> str:
        """AWS's account number, empty where AWS is not served."""
        return self.aws.account_id if "aws" in self._fronts else ""

    @property
    def hook(self) -> Hook | None:
        """See ``Hook``: told of each mutating call, before it and after its effect."""
        return self._gate.hook

    @hook.setter
    def hook(self, hook: Hook | None) -> None:
        self._gate.hook = hook

    def environment(self) -> dict[str, str]:
        """The variables that send the clouds' SDKs, or a child process, here."""
        found: dict[str, str] = {}
        for front in self._fronts.values():
            found |= front.environment(self.endpoint)
        return found

    def client_arguments(self) -> dict[str, str]:
        """The same for AWS as keyword arguments of ``boto3.client``."""
        return {
            "endpoint_url": self.endpoint,
            "region_name": DEFAULT_REGION,
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SECRET_ACCESS_KEY,
        }

    def world(self) -> tuple[Thing, ...]:
        """Everything that somebody made and nobody removed, in all regions."""
        self._world.catch_up()
        with self._world.lock:
            return tuple(thing for cloud in self.clouds for thing in self._fronts[cloud].things())

    def journal(self) -> tuple[Call, ...]:
        """Every call of the API so far, oldest first."""
        return self._journal.calls()

    def console(self, instance_id: str) -> bytes:
        return self._world.console(instance_id)

    def set(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Changes lifecycle times (``starting_s``, …) or AWS's ``vcpu_limit``; gives all of them. ValueError for
        others."""
        times = asdict(self._world.times)
        limits = {"vcpu_limit"} if "aws" in self._fronts else set()
        unknown = set(numbers) - set(times) - limits
        if unknown or any(number < 0 for number in numbers.values()):
            raise ValueError(f"not a setting, or below zero: {', '.join(sorted(unknown or numbers))}")
        if "vcpu_limit" in numbers:
            self.aws.vcpu_limit = int(numbers["vcpu_limit"])
        self._world.set_times(**{name: number for name, number in numbers.items() if name in times})
        return {**asdict(self._world.times), **({"vcpu_limit": self.aws.vcpu_limit} if limits else {})}

    def unplug(self) -> None:
        """From now on every connection breaks without effect, until ``plug``: the cloud is out of reach."""
        self._plugged = False

    def plug(self) -> None:
        self._plugged = True

    def start(self) -> None:
        """Listens, and loads every cloud; when it returns, both are done."""
        self.listen()
        self.load()

    def listen(self) -> None:
        """From now on requests are taken. EC2's wait until it is loaded; other clouds are loaded by their first."""
        self._world.start()
        self._server.start()

    def load(self, *clouds: str) -> None:
        """Loads these clouds, or all; a second or two each. EC2 is to be loaded in the main thread, before anything
        depends on the environment: while that goes on nobody's AWS settings are in it."""
        for cloud in clouds or self.clouds:
            self._load(cloud)

    def _load(self, cloud: str) -> None:
        if cloud in self._loaded:
            return
        with self._loading:
            if cloud not in self._loaded:
                self._fronts[cloud].load()
                attesting.show(self._state_dir, cloud, self._fronts[cloud].identity_roots())
                self._loaded.add(cloud)

    def close(self) -> None:
        """Stops serving and ends every machine; when it returns, none of their processes is left. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._server.close()
        self._world.close()
        for front in self._fronts.values():
            front.close()
        self._network.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, request: Request) -> Response:
        if request.path.startswith(control.PREFIX):
            return self._control.answer(request)
        if not self._plugged:
            raise DropConnectionError
        front = next((front for front in self._fronts.values() if front.takes(request)), None)
        if front is None:
            return Response(404, f"no cloud is served here that has {request.path}\n".encode())
        if front.provider != "aws":
            self._load(front.provider)
        response = front.answer(request)
        # By the world's clock, as every real endpoint tells its own.
        return replace(response, headers={"date": formatdate(self._world.clock.now(), usegmt=True), **response.headers})

    def _health(self) -> dict[str, Any]:
        return {
            "account_id": self.account_id,
            "boot": QEMU if self._boots_disks else PROCESSES,
            "clock": clocks.form_of(self._world.clock),
            "clouds": self.clouds,
            "environment": self.environment(),
            "now": self._world.clock.now(),
            "pid": os.getpid(),
        }

    def _add_fault(self, body: bytes) -> Any:
        self.faults.add(msgspec.json.decode(body, type=FaultRule))
        return self.faults.rules()

    def _limit_room(self, body: bytes) -> Any:
        self.capacity.limit(msgspec.json.decode(body, type=Limit))
        return self.capacity.limits()

    def _advance(self, body: bytes) -> dict[str, float]:
        seconds = msgspec.json.decode(body, type=dict[str, float]).get("advance_s", 0.0)
        now = clocks.advance(self._world.clock, seconds)
        self._world.catch_up()
        return {"now": now}
