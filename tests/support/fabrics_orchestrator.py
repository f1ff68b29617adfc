"""The orchestrator of a fabric that lives in this process: a real program on loopback, claimed as a person would."""

from __future__ import annotations

from pathlib import Path

from standalone import Process

from grafos_core.fabric import Fabric
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.claiming import take_orchestrator
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.records import OPERATOR

HEARTBEAT_EVERY_S = 0.25


class FabricsOrchestrator:
    """Its folders outlive its processes. ``flags`` are more of the program's own."""

    def __init__(self, fabric: Fabric, folder: Path, **flags: object) -> None:
        self.fabric, self.folder, self.home = fabric, folder, OrchestratorHome(fabric)
        self.home.make_secret()
        self._secret = folder / "claim-secret"
        self._secret.write_bytes(self.home.secret_file.read_bytes())
        self._flags = {"healthy-after-s": 0, "heartbeat-every-s": HEARTBEAT_EVERY_S, **flags}
        self._port = 0
        self.start()
        take_orchestrator(fabric, self.url, None)

    def start(self) -> None:
        """After the first time always on the same port."""
        given = {
            "mode": "orchestrator",
            "auth-mode": "mtls+token",
            "bind": f"127.0.0.1:{self._port}",
            "state": self.folder / "state",
            "trust": self.folder / "trust",
            "fabric": self.fabric.id,
            "claim-secret-file": self._secret,
            **self._flags,
        }
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        self.process = Process("grafos_scheduler", arguments, self.folder / "orchestrator.log")
        self.url = str(self.process.wait_ready()["url"])
        self._port = int(self.url.rpartition(":")[2])

    def end(self) -> None:
        assert self.process.end() == 0

    def client(self) -> OrchestratorClient:
        return self.home.client(OPERATOR)

    def log(self) -> str:
        return (self.folder / "orchestrator.log").read_text()

    def discard(self) -> None:
        self.process.discard()
