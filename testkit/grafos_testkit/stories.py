"""Whole stories from one integer each: who takes part, how rough it is, and all that comes of it."""

from __future__ import annotations

import random
from dataclasses import replace

from grafos_testkit.scenes import Faults, Scene
from grafos_testkit.world import World


def whole(seed: int) -> World:
    """Four cells or more, three tenants, everything that can be asked for, and faults of all kinds."""
    chance = random.Random(seed)
    return World(seed, Scene.whole(chance), Faults.of_all_kinds(chance))


def joining(seed: int) -> World:
    """The cells enrol first, renew, are cut off, drained, revoked, copied, and come again."""
    chance = random.Random(seed)
    return World(seed, Scene.joining(chance), replace(Faults.drawn(chance), partition=chance.choice([0.0, 0.1])))
