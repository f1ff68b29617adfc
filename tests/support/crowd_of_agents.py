"""The crowd of ``crowd`` on real agents: each cell is a process of its own that runs what it is given."""

from __future__ import annotations

import os
from collections import Counter

from agents import AgentOf
from command_line import HELLO
from crowd import CLOUDS, Crowd
from wasmtime import wat2wasm


class Agents:
    """What a crowd asks of its cells. What real ones started is told by what was charged and what is audited."""

    def __init__(self, agents: list[AgentOf]) -> None:
        self.started: Counter[str] = Counter()
        self._agents = agents

    def close(self) -> None:
        for agent in self._agents:
            agent.discard()


class CrowdOfAgents(Crowd):
    """Three agents with the cores of this machine each."""

    cores = len(os.sched_getaffinity(0))
    module = bytes(wat2wasm(HELLO))

    def _join(self, cells_dial: str) -> Agents:
        agents = []
        for n, cloud in enumerate(CLOUDS):
            at = self._door(n)
            agent = AgentOf(at, f"{cloud}-crowd").given(at.bootstrap(self.operator, f"{cloud}-crowd", cloud))
            agent.begin(provider=cloud)
            agents.append(agent)
        return Agents(agents)
