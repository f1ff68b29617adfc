"""Which instance of a service gets a session: one of those that are healthy, by the policy that is asked for.

The same rules serve the scheduler, which knows each instance's state, and a client that has a topology of a moment ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafos_core.errors import GrafosError
from grafos_scheduler.service_messages import Policy


class Endpoint(NamedTuple):
    """An instance that can take sessions. ``node_id`` is its cell."""

    instance_id: str
    node_id: str
    listener_port: int
    sessions: int
    max_sessions: int


def resolve(name: str, healthy: Sequence[Endpoint], policy: Policy, turn: int) -> Endpoint:
    """The endpoint for the next session; ``turn`` counts those before it.

    ``no_healthy_replica`` where nobody serves, ``sessions_exhausted`` where everybody has as many sessions as it may.
    """
    if not healthy:
        raise GrafosError(
            "no_healthy_replica",
            f"no instance of service {name} can take a session now",
            next=f"see why: grafos service show {name}",
        )
    free = [endpoint for endpoint in healthy if endpoint.sessions < endpoint.max_sessions]
    if not free:
        raise GrafosError(
            "sessions_exhausted",
            f"each of the {len(healthy)} instances of service {name} has as many sessions as it may",
            next=f"wait, or add replicas: grafos service scale {name} N",
        )
    free.sort(key=lambda endpoint: endpoint.instance_id)
    if policy is Policy.LEAST_SESSIONS:
        return min(free, key=lambda endpoint: endpoint.sessions)
    return free[turn % len(free)]
