"""A person at a shell with an emulated cloud, whose orchestrator is made there, and a cell on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from agents import until
from command_line import Person

REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}


class OrchestratedPerson:
    """See the module."""

    def __init__(self, folder: Path, provider: str) -> None:
        self.person, self.provider = Person(folder), provider
        self.agents: dict[str, subprocess.Popen[str]] = {}
        up = self.person("emulate", "up", "--clouds", provider)
        assert up.code == 0, up.err
        self.person.env.update(self.person("emulate", "env", "--json").document["environment"])

    def __call__(self, *words: str) -> dict[str, Any]:
        """Runs `grafos` with --json, which goes well."""
        answer = self.person(*words, "--json")
        assert answer.code == 0, answer.out + answer.err
        return answer.document

    def refused(self, *words: str) -> str:
        """The code that it is refused with."""
        answer = self.person(*words, "--json")
        assert answer.code != 0, answer.out
        return answer.error_code

    def up(self, *more: str) -> dict[str, Any]:
        return self("fabric", "up", "--on", self.provider, "--region", REGIONS[self.provider], "--yes", *more)

    def resources(self) -> list[Any]:
        """What the cloud itself has."""
        found: list[Any] = self.person("emulate", "status", "--json").document["resources"]
        return found

    def lose_the_machine(self) -> None:
        """Somebody deletes it in the cloud's console."""
        from grafos_connectors.contract import Kind, Pending, Ref
        from grafos_connectors.registry import open_connector

        shown = self("cloud", "show", "--cell-id", "orchestrator")["cell"]
        [machine] = [part for part in shown["resources"] if part["kind"] == "machine"]
        region = REGIONS[self.provider]
        connector = open_connector(self.provider, region, environment=self.person.env)
        ref = Ref(key="", kind=Kind.MACHINE, id=machine["id"], region=region, zone=shown["zone"])
        operation = connector.begin_delete(ref)
        until(lambda: not isinstance(connector.poll(operation), Pending), "the machine's end")

    def join(self, cell_id: str, provider: str = "azure") -> None:
        """A cell on this machine, which enrols and is ready."""
        told = self("cloud", "bootstrap-cell", "--provider", provider, "--cell-id", cell_id, "--rate", "3.35")
        program, *words = told["command"]
        assert program == "grafos"
        log = (self.person.project / f"{cell_id}.log").open("ab")
        self.agents[cell_id] = self.person.starts(*words, "--mem-capacity", "16m", "--block-capacity", "1m", into=log)
        log.close()
        self.await_ready(cell_id)

    def await_ready(self, cell_id: str) -> None:
        agent = self.agents[cell_id]
        until(lambda: agent.poll() is not None or self.is_ready(cell_id), "the cell")
        assert agent.poll() is None, (self.person.project / f"{cell_id}.log").read_text()

    def is_ready(self, cell_id: str) -> bool:
        answer = self.person("fabric", "cells", "--json")
        cells = answer.document["cells"] if answer.code == 0 else []
        return any(cell["cell_id"] == cell_id and cell["ready"] for cell in cells)

    def discard(self) -> None:
        for agent in self.agents.values():
            agent.kill()
            agent.wait()
        self.person("emulate", "down")
