"""An image that is published to an emulated account, by processes that may die."""

from __future__ import annotations

from pathlib import Path

from crash_sweep import REGIONS

from grafos_connectors.uploads import MIB, Disk
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_stacks.direct import Hands
from grafos_stacks.publishing import Published, publish
from grafos_stacks.publishing_plan import DiskFacts, Publication, stack_of

KEEP_S = 2 * 86400
DISK_BYTES = 3 * MIB
ISLANDS = ((1000, 200_000), (2 * MIB + 5, 700_000))


def asked(hands: Hands, disk: Disk, arch: str = "amd64", keep_s: int = KEEP_S) -> Publication:
    """The image at the place where these tests are."""
    provider = hands.connector.provider
    region, now = REGIONS[provider], hands.clock.now()
    price = hands.connector.keeping_price(region)  # type: ignore[attr-defined]
    facts = DiskFacts(disk.sha256, arch, disk.size_bytes)
    return Publication(provider, region, facts, price, now, int(now) + keep_s)


def published(hands: Hands, disk: Disk) -> Published:
    """As a person would who runs the command."""
    return publish(hands, asked(hands, disk), disk)


def stack(hands: Hands, disk: Disk) -> str:
    provider = hands.connector.provider
    return stack_of(provider, REGIONS[provider], disk.sha256)


def held(hands: Hands) -> int:
    """What the operator's account has on hold."""
    return hands.fabric.read_ledger().accounts[OPERATOR_ACCOUNT].held_micro_cents


def project(hands: Hands) -> Path:
    return Path(hands.fabric.home) / "project"
