"""The emulated Compute Engine alone, in the test's process, without the other clouds."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from grafos_core.clock import Clock
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.boot.driver import Driver, NoDriver
from grafos_emulators.boot.process import ProcessDriver
from grafos_emulators.gcp.front import GcpFront
from grafos_emulators.http import Server
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_emulators.world import World


class GceHere:
    def __init__(self, state_dir: Path, *, clock: Clock, boots: bool) -> None:
        driver: Driver = ProcessDriver(state_dir, clock) if boots else NoDriver()
        self.world = World(clock=clock, times=LifecycleTimes(), driver=driver)
        self._network = LoopbackNetwork()
        self.front = GcpFront(self.world, self._network)
        self._server = Server(self.front.answer)
        self.endpoint = self._server.endpoint
        self.front.environment(self.endpoint)
        self.front.project.endpoint = self.endpoint

    def __enter__(self) -> Self:
        self.front.load()
        self.world.start()
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self.world.close()
        self._network.close()
