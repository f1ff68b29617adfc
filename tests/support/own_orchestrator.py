"""A person with an orchestrator on a machine of their own, and cells that joined it, all by the command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from agents import until
from command_line import Person
from standalone import Process

RATE = "3.35"
QUICK = ("--healthy-after-s", "0", "--heartbeat-every-s", "0.5")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class OwnOrchestrator:
    """Begun as `grafos fabric init` says it, with ``FLAGS`` beside that; nobody has claimed it yet."""

    FLAGS = QUICK

    def __init__(self, person: Person, *more: str) -> None:
        self.person = person
        self.bind = f"127.0.0.1:{free_port()}"
        self.url = f"https://{self.bind}"
        self.agents: dict[str, subprocess.Popen[str]] = {}
        made = person("fabric", "init", "--bind", self.bind, *more, "--json")
        assert made.code == 0, made.err
        self.init: dict[str, Any] = made.document
        self.process = self.again()

    def again(self) -> Process:
        """A process with the same folders and the same port, which answers."""
        program, *arguments = self.init["command"]
        assert program == "grafos-scheduler"
        process = Process("grafos_scheduler", [*arguments, *self.FLAGS], self.person.project / "orchestrator.log")
        process.wait_ready()
        return process

    @property
    def secret_file(self) -> Path:
        return Path(self.init["secret_file"])

    def bootstrap(self, provider: str, cell_id: str, *more: str) -> dict[str, Any]:
        """What `grafos cloud bootstrap-cell` told."""
        asked = ("--provider", provider, "--cell-id", cell_id, "--rate", RATE, "--region", f"{provider}-here")
        answer = self.person("cloud", "bootstrap-cell", *asked, *more, "--json")
        assert answer.code == 0, answer.out
        return answer.document

    def start_agent(self, told: dict[str, Any], cwd: Path | None = None, cores: int = 0) -> None:
        """Starts the agent as `bootstrap-cell` said it, and waits until its cell is ready. With ``cores`` its machine
        has no more of them."""
        program, *words = told["command"]
        assert program == "grafos"
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(ours)[:cores] if cores else ours)
        try:
            agent = self.person.starts(*words, "--mem-capacity", "16m", "--block-capacity", "1m", cwd=cwd)
        finally:
            os.sched_setaffinity(0, ours)
        self.agents[told["cell_id"]] = agent
        until(lambda: agent.poll() is not None or self.cell(told["cell_id"]).get("ready"), "the cell")
        assert agent.poll() is None, agent.communicate()

    def cell(self, cell_id: str) -> dict[str, Any]:
        """The cell as `grafos fabric cells` tells of it."""
        cells = self.person("fabric", "cells", "--json").document["cells"]
        return next((cell for cell in cells if cell["cell_id"] == cell_id), {})

    def end_agent(self, cell_id: str) -> int:
        agent = self.agents.pop(cell_id)
        agent.send_signal(signal.SIGTERM)
        agent.communicate()
        return agent.returncode

    def discard(self) -> None:
        for agent in self.agents.values():
            agent.kill()
            agent.communicate()
        self.process.discard()
