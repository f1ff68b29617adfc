"""An emulated AWS in the calling process.

    with EmulatedAws(tmp_path) as aws:
        client = boto3.client("ec2", **aws.client_arguments())
        …
        assert aws.world() == ()

Its machines run under ``state_dir``, and end with it. Several can run in one process; none sees another's resources.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from grafos_core.clock import Clock, SystemClock
from grafos_emulators import control, state
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.aws.account import DEFAULT_VCPU_LIMIT, Account
from grafos_emulators.aws.census import Thing, things
from grafos_emulators.aws.front import AwsFront, Hook
from grafos_emulators.aws.host import host_architecture
from grafos_emulators.boot.driver import Driver, NoDriver
from grafos_emulators.boot.process import ProcessDriver
from grafos_emulators.control import Control
from grafos_emulators.credentials import ACCESS_KEY_ID, DEFAULT_REGION, SECRET_ACCESS_KEY, client_environment
from grafos_emulators.http import DropConnectionError, Request, Response, Server
from grafos_emulators.journal import Call, Journal
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_emulators.world import World


@dataclass(frozen=True)
class Settings:
    """How an emulator behaves. ``boots``: machines run their user data; without, they are states only."""

    times: LifecycleTimes = field(default_factory=LifecycleTimes)
    boots: bool = True
    vcpu_limit: int = DEFAULT_VCPU_LIMIT


class EmulatedAws:
    """Serves from ``start`` (or ``with``) until ``close``. One emulator for each ``state_dir``: a second is refused."""

    def __init__(self, state_dir: Path, settings: Settings | None = None, *, clock: Clock | None = None) -> None:
        settings, clock = settings or Settings(), clock or SystemClock()
        with contextlib.ExitStack() as undo:  # what is taken is given back when a later step fails
            self._lock = state.take(state_dir)
            undo.callback(os.close, self._lock)
            driver: Driver = ProcessDriver(state_dir, clock) if settings.boots else NoDriver()
            self._world = World(clock=clock, times=settings.times, driver=driver)
            self._network = LoopbackNetwork()
            undo.callback(self._network.close)
            self._open_account(settings)
            undo.pop_all()
        self._plugged = True
        self._closed = False

    def _open_account(self, settings: Settings) -> None:
        self._journal = Journal()
        self._account = Account(
            world=self._world,
            network=self._network,
            architecture=host_architecture(),
            vcpu_limit=settings.vcpu_limit,
        )
        self._front = AwsFront(self._account, self._journal)
        readings = {
            "health": self._health,
            "journal": self.journal,
            "world": self.world,
            "machines": self._world.states,
        }
        self._control = Control(readings, self.set)
        self._server = Server(self._answer)
        self._account.endpoint = self._server.endpoint

    @property
    def endpoint(self) -> str:
        return self._server.endpoint

    @property
    def account_id(self) -> str:
        return self._account.account_id

    @property
    def hook(self) -> Hook | None:
        """See ``Hook``: told of each mutating call, before it and after its effect."""
        return self._front.hook

    @hook.setter
    def hook(self, hook: Hook | None) -> None:
        self._front.hook = hook

    def environment(self) -> dict[str, str]:
        """The variables that send an SDK, or a child process, here."""
        return client_environment(self.endpoint)

    def client_arguments(self) -> dict[str, str]:
        """The same as keyword arguments of ``boto3.client``."""
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
            return things(self._front.regions)

    def journal(self) -> tuple[Call, ...]:
        """Every call of the API so far, oldest first."""
        return self._journal.calls()

    def console(self, instance_id: str) -> bytes:
        return self._world.console(instance_id)

    def set(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Changes lifecycle times (``starting_s``, …) or ``vcpu_limit``; gives all of them. ValueError for others."""
        times = asdict(self._world.times)
        unknown = set(numbers) - set(times) - {"vcpu_limit"}
        if unknown or any(number < 0 for number in numbers.values()):
            raise ValueError(f"not a setting, or below zero: {', '.join(sorted(unknown or numbers))}")
        self._account.vcpu_limit = int(numbers.get("vcpu_limit", self._account.vcpu_limit))
        self._world.set_times(**{name: number for name, number in numbers.items() if name in times})
        return {**asdict(self._world.times), "vcpu_limit": self._account.vcpu_limit}

    def unplug(self) -> None:
        """From now on every connection breaks without effect, until ``plug``: the cloud is out of reach."""
        self._plugged = False

    def plug(self) -> None:
        self._plugged = True

    def start(self) -> None:
        """Listens, and loads what the first answers of EC2 need; when it returns, both are done."""
        self.listen()
        self.load()

    def listen(self) -> None:
        """From now on requests are taken; those to EC2 wait until ``load`` is done."""
        self._world.start()
        self._server.start()

    def load(self) -> None:
        """Loads moto, a second or two. Call it once, in the main thread, before anything depends on the environment:
        for that time nobody's AWS settings are in it.
        """
        self._front.load()

    def close(self) -> None:
        """Stops serving and ends every machine; when it returns, none of their processes is left. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._server.close()
        self._world.close()
        self._front.close()
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
        return self._front.answer(request)

    def _health(self) -> dict[str, Any]:
        return {"account_id": self.account_id, "pid": os.getpid()}
