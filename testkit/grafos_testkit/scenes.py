"""Who takes part in a simulated fabric, and how rough its world is."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources

TENANTS = ("ada", "grace")
THREE_TENANTS = (*TENANTS, "lea")


@dataclass(frozen=True)
class Faults:
    """How rough the world is until ``until_s`` seconds have passed in it. Chances are per occasion, from 0 to 1.

    ``kill``: a process dies before or after a commit, or before an effect. ``lost_for_ever``: a cell that died never
    comes back. ``disk``: a commit is refused by the disk, and its process ends. ``cut``: a link breaks with a frame.
    ``lose``: a request, or its answer, is lost. ``partition``: a cell is cut off for a while. ``stuck_worker``: a
    program cannot be stopped. ``failed_unbind``: a lease cannot be taken down. ``crash``: an instance of a service
    ends by itself. ``kill_at`` names kill points by their number instead.
    """

    until_s: float = 60.0
    kill: float = 0.0
    lost_for_ever: float = 0.0
    cut: float = 0.0
    lose: float = 0.0
    stuck_worker: float = 0.0
    failed_unbind: float = 0.0
    partition: float = 0.0
    disk: float = 0.0
    crash: float = 0.0
    kill_at: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in ("until_s", "kill_at") and not 0.0 <= value <= 1.0:
                raise GrafosError("request_invalid", f"the chance of {name} is {value}", next="give one from 0 to 1")

    @classmethod
    def drawn(cls, chance: random.Random) -> Faults:
        """From calm to stormy."""
        rough = chance.choice([0.0, 0.3, 1.0, 3.0])
        return cls(
            kill=0.02 * rough * chance.random(),
            lost_for_ever=0.1 * rough * chance.random(),
            cut=0.03 * rough * chance.random(),
            lose=0.2 * rough * chance.random(),
            stuck_worker=0.3 * rough * chance.random(),
            failed_unbind=0.1 * rough * chance.random(),
            partition=0.1 * rough * chance.random(),
        )

    @classmethod
    def of_all_kinds(cls, chance: random.Random) -> Faults:
        """As ``drawn``, and disks that refuse and instances that crash; now and then hardly anything can be taken
        down."""
        faults = cls.drawn(chance)
        rough = chance.choice([0.0, 1.0, 3.0])
        faults = replace(faults, disk=0.002 * rough * chance.random(), crash=min(1.0, 0.5 * rough * chance.random()))
        faults = replace(faults, until_s=chance.choice([60.0, 120.0]), partition=chance.choice([0.0, 0.03, 0.1]))
        is_sticky = chance.random() < 0.4
        return replace(faults, stuck_worker=0.5, failed_unbind=0.4) if is_sticky else faults


CALM = Faults(until_s=0.0)
"""Nothing happens but what somebody does."""


@dataclass(frozen=True)
class Scene:
    """Who takes part. ``well_behaved``: every program finishes. ``takes_back``: how likely the operator, at each visit,
    takes a lease back or has a run cancelled. ``deadline_s`` is that of every run, where it is not drawn; a program
    takes at least ``least_share_of_deadline`` of it. With ``joins`` the cells enrol at an orchestrator; ``revokes`` and
    ``drains`` are how likely a cell is, at each visit, ``copies`` how likely somebody starts a copy of its machine, and
    with ``clocks_off`` some clocks are off by hours. ``clients`` ask for one run each, and there are so many whole
    programs, regions and services. Of each row that is committed somebody ``meddles`` with so many. ``budgets`` are
    those of tenants that have another than the rest, ``total`` is what each cell has, where that is not drawn. Where
    ``some_are_free`` every other cell costs nothing."""

    cells: int
    clients: int
    budget_micro_cents: int
    well_behaved: bool = False
    takes_back: float = 0.0
    deadline_s: float = 0.0
    least_share_of_deadline: float = 0.0
    joins: bool = False
    revokes: float = 0.0
    drains: float = 0.0
    copies: float = 0.0
    clocks_off: bool = False
    meddles: float = 0.0
    tenants: tuple[str, ...] = TENANTS
    budgets: tuple[tuple[str, int], ...] = ()
    total: Resources | None = None
    programs: int = 0
    regions: int = 0
    services: int = 0
    some_are_free: bool = False

    def budget_of(self, tenant: str) -> int:
        """What the tenant may spend, in micro-cents."""
        return dict(self.budgets).get(tenant, self.budget_micro_cents)

    def rate_of(self, number: int) -> int:
        """What the cell of that number costs, in micro-cents an hour."""
        return 0 if self.some_are_free and number % 2 == 0 else 3_000_000 + 500_000 * number

    @classmethod
    def drawn(cls, chance: random.Random) -> Scene:
        """Up to three cells that run single runs."""
        return cls(
            chance.randint(1, 3),
            chance.randint(3, 20),
            chance.choice([40_000, 400_000, 40_000_000]),
            takes_back=chance.choice([0.0, 0.1, 0.5]),
        )

    @classmethod
    def joining(cls, chance: random.Random) -> Scene:
        """Cells that enrol at an orchestrator."""
        drawn = cls.drawn(chance)
        revokes, drains = chance.choice([0.0, 0.05, 0.2]), chance.choice([0.0, 0.1])
        copies, clocks_off = chance.choice([0.0, 0.0, 0.1]), chance.random() < 0.5
        return replace(drawn, joins=True, revokes=revokes, drains=drains, copies=copies, clocks_off=clocks_off)

    @classmethod
    def whole(cls, chance: random.Random) -> Scene:
        """Four cells or more and three tenants, who run, compose, share memory and serve all at once."""
        scene = cls.joining(chance)
        return replace(
            scene,
            joins=chance.random() < 0.5,
            budget_micro_cents=chance.choice([40_000, 100_000, 400_000, 40_000_000]),
            cells=chance.randint(4, 5),
            clients=chance.randint(4, 14),
            tenants=THREE_TENANTS,
            programs=chance.randint(2, 4),
            regions=chance.randint(2, 6),
            services=chance.randint(1, 4),
            meddles=chance.choice([0.0, 0.05, 0.2]),
        )
