"""What all services of one emulated AWS account share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.aws.tokens import TokenBook
from grafos_emulators.world import World

DEFAULT_VCPU_LIMIT = 640  # "Running On-Demand Standard instances": what an account some months old may have
DEFAULT_GPU_VCPU_LIMIT = 64  # of each family with GPUs, on each market; a new account has to ask for any

# moto keeps accounts apart by their number. So each emulator of a process has its own, and none sees another's.
_account_numbers: Iterator[int] = itertools.count(42_000_042)


def new_account_id() -> str:
    return f"{next(_account_numbers):012d}"


class InstanceView(Protocol):
    """An instance as the metadata service shows it."""

    @property
    def values(self) -> dict[str, str]:
        """Paths below ``latest/meta-data/`` and their text."""
        ...

    @property
    def user_data(self) -> bytes: ...

    @property
    def identity(self) -> dict[str, Any]:
        """Its instance identity document."""
        ...

    @property
    def is_spot(self) -> bool: ...

    @property
    def answers(self) -> bool:
        """Whether the instance exists and its metadata endpoint is switched on."""
        ...


@dataclass
class Account:
    """One account. ``architecture`` is EC2's word (``x86_64`` | ``arm64``) for what the stock images are made for.

    ``endpoint`` is the emulator's own address, known once it serves. ``denied`` are actions (``ec2:RunInstances``,
    or patterns) that the caller is not allowed. ``spot_notices`` are the instances' documents.
    """

    world: World
    network: LoopbackNetwork
    architecture: str
    account_id: str = field(default_factory=new_account_id)
    vcpu_limit: int = DEFAULT_VCPU_LIMIT
    spot_vcpu_limit: int = DEFAULT_VCPU_LIMIT
    gpu_vcpu_limit: int = DEFAULT_GPU_VCPU_LIMIT
    denied: set[str] = field(default_factory=set)
    spot_notices: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""
    tokens: TokenBook = field(default_factory=TokenBook)
    instances: dict[str, InstanceView] = field(default_factory=dict)
