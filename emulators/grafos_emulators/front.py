"""What one emulated cloud is to the emulator that serves it: a function from requests to responses, and its things.

Each is ``grafos_emulators.<cloud>.front.<Cloud>Front(world, network, gate)``. All share one world (its lock, its clock,
its machines), one loopback network for the machines' addresses, and one gate that every call passes through. A front is
loaded when it is first asked, so a cloud that nobody uses costs nothing. A machine's id is unique over all clouds: the
metadata of each is below ``/imds/<machine-id>/``, and a front takes those of its own machines only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Protocol

from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.census import Thing
from grafos_emulators.gate import Gate
from grafos_emulators.http import Request, Response
from grafos_emulators.world import World

FRONTS = {"aws": "AwsFront", "azure": "AzureFront", "gcp": "GcpFront"}


class Front(Protocol):
    """One emulated cloud."""

    provider: str

    def takes(self, request: Request) -> bool:
        """Whether the request is for this cloud, by its path; AWS takes what no other takes."""
        ...

    def answer(self, request: Request) -> Response:
        """The answer; requests that come before ``load`` is done wait for it."""
        ...

    def things(self) -> Iterable[Thing]:
        """Everything that somebody made and nobody removed; the caller holds the world's lock."""
        ...

    def environment(self, endpoint: str) -> dict[str, str]:
        """The variables that send a client, or a child process, to this cloud at ``endpoint``."""
        ...

    def serve_at(self, endpoint: str) -> None:
        """Told once, before the first request: the emulator's own address."""
        ...

    def load(self) -> None:
        """Loads what the first answers need, a second or two."""
        ...

    def identity_roots(self) -> Mapping[str, str]:
        """Once loaded: what holds the signatures of its metadata service, PEM by name."""
        ...

    def close(self) -> None:
        """Lets go of what the world does not end."""
        ...


def open_front(cloud: str, world: World, network: LoopbackNetwork, gate: Gate) -> Front:
    """The front of a cloud; only that cloud's package is imported."""
    assert cloud in FRONTS, f"there is no emulated {cloud}"
    front: Front = getattr(import_module(f"grafos_emulators.{cloud}.front"), FRONTS[cloud])(world, network, gate)
    return front
