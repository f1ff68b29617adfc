"""Whole stories from one integer each: who takes part, how rough it is, and all that comes of it."""

from __future__ import annotations

import random
from dataclasses import replace

from grafos_testkit.scenes import Faults, Scene
from grafos_testkit.world import World

FREE = 0.2
"""How likely every other cell costs nothing."""


def whole(seed: int) -> World:
    """Four cells or more, three tenants, everything that can be asked for, and faults of all kinds. Every other story
    dwells on something that is rare in the rest."""
    chance = random.Random(seed)
    scene, faults = Scene.whole(chance), Faults.of_all_kinds(chance)
    dwell_on = chance.choice([_everything, _everything, _everything, _last_seconds, _sticking, _crashing, _cut_off])
    scene, faults = dwell_on(scene, faults)
    scene = replace(scene, some_are_free=chance.random() < FREE)
    return World(seed, scene, faults)


def _everything(scene: Scene, faults: Faults) -> tuple[Scene, Faults]:
    return scene, faults


def _last_seconds(scene: Scene, faults: Faults) -> tuple[Scene, Faults]:
    """Regions that are taken back as they run out, by cells that nobody disturbs."""
    calmer = replace(faults, until_s=120.0, kill=0.0, cut=0.0, lose=0.0, partition=0.0)
    return replace(scene, regions=14, meddles=0.2, budget_micro_cents=40_000_000), calmer


def _sticking(scene: Scene, faults: Faults) -> tuple[Scene, Faults]:
    """Long runs that lose a lease, cannot be stopped, and leave what cannot be taken down."""
    rough = replace(faults, until_s=120.0, stuck_worker=0.8, failed_unbind=0.6, lost_for_ever=0.0)
    long = replace(scene, clients=14, regions=10, deadline_s=100.0, budget_micro_cents=40_000_000)
    return replace(long, takes_back=0.5, meddles=0.1), rough


def _crashing(scene: Scene, faults: Faults) -> tuple[Scene, Faults]:
    """Instances that crash again and again, and lose a lease while they wait to be started."""
    calmer = replace(faults, until_s=120.0, kill=0.0, cut=0.0, partition=0.0, crash=1.0)
    return replace(scene, services=4, meddles=0.15, budget_micro_cents=40_000_000), calmer


def _cut_off(scene: Scene, faults: Faults) -> tuple[Scene, Faults]:
    """Cells that are away for longer than their leases last, and serve on by clocks of their own."""
    calmer = replace(faults, until_s=120.0, kill=0.0, cut=0.0, lose=0.0, crash=0.0, disk=0.0, partition=0.04)
    return replace(scene, joins=False, services=4, clients=4, meddles=0.0, budget_micro_cents=40_000_000), calmer


def joining(seed: int) -> World:
    """The cells enrol first, renew, are cut off, drained, revoked, copied, and come again."""
    chance = random.Random(seed)
    return World(seed, Scene.joining(chance), replace(Faults.drawn(chance), partition=chance.choice([0.0, 0.1])))
