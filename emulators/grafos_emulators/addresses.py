"""A loopback address for each machine.

Linux answers on all of 127.0.0.0/8 without any set-up, so each emulated machine can have an address of its own and
every machine can use the same port. Each emulator takes one 127.X.0.0/16 for itself, and marks it as taken by a socket
bound to 127.X.0.1: the kernel lets only one process have it, and lets go of it when that process dies.
"""

from __future__ import annotations

import ipaddress
import socket

from grafos_core.errors import GrafosError

FIRST_NETWORK, LAST_NETWORK = 42, 250  # 127.0/16 to 127.41/16 are left to whatever else uses loopback
CLAIM_PORT = 46042  # any fixed port does; nothing ever listens on it
FIRST_HOST = 256  # 127.X.1.0: leaves 127.X.0/24 to the emulator itself
LAST_HOST = 65_000


class LoopbackNetwork:
    """One emulator's 127.X.0.0/16. ``take`` gives an unused address, ``give_back`` ends its use."""

    def __init__(self) -> None:
        self._claim, network = _claim_network()
        self._base = int(ipaddress.IPv4Address(f"127.{network}.0.0"))
        self._next_host = FIRST_HOST
        self._used: set[str] = set()

    def take(self) -> str:
        """The next free address; one that was given back is used again only after all others were."""
        for _ in range(FIRST_HOST, LAST_HOST):
            self._next_host = FIRST_HOST if self._next_host >= LAST_HOST else self._next_host + 1
            address = str(ipaddress.IPv4Address(self._base + self._next_host))
            if address not in self._used and self._next_host % 256 not in {0, 255}:
                self._used.add(address)
                return address
        raise GrafosError("limit_exceeded", f"more than {self.taken_count} emulated machines at once")

    @property
    def taken_count(self) -> int:
        """How many addresses are in use."""
        return len(self._used)

    def give_back(self, address: str) -> None:
        self._used.discard(address)

    def close(self) -> None:
        self._claim.close()


def _claim_network() -> tuple[socket.socket, int]:
    for network in range(FIRST_NETWORK, LAST_NETWORK + 1):
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            claim.bind((f"127.{network}.0.1", CLAIM_PORT))
        except OSError:
            claim.close()
            continue
        return claim, network
    raise GrafosError(
        "limit_exceeded",
        "all loopback networks from 127.42 to 127.250 are taken by running emulators",
        next="stop an emulator: grafos emulate down",
    )
