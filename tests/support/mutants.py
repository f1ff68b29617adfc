"""The code with one mistake in it, and the hunt for that mistake by the simulator.

A mutant is a copy of a package in which one place of one module is another; a child process plays stories on it, and
nothing of it is ever in this one. Each takes one promise away: money, a fence, or something that was acknowledged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from source_tree import ROOT

HUNT = """
import json, sys
from grafos_testkit.stories import whole
from grafos_testkit.world import InvariantError
commits = 0
for seed in json.loads(sys.argv[1]):
    world = whole(seed)
    try:
        world.run()
    except InvariantError as found:
        print(json.dumps([seed, found.commits, commits + found.commits, found.why]))
        break
    commits += world.commits
"""


class Mutant(NamedTuple):
    """``instead`` stands in the place of ``there``, which is in the module once."""

    name: str
    promise: str
    module: str
    there: str
    instead: str


class Death(NamedTuple):
    """In which story, at which step of it, after how many steps in all, and by which words."""

    seed: int
    step: int
    steps: int
    why: str


def hunt(mutant: Mutant, seeds: Iterable[int], folder: Path) -> Death | None:
    """Plays the stories of these seeds on the mutant, until what must be true is not; None if it always was."""
    room, package, *inside = mutant.module.split("/")
    module = ROOT / mutant.module
    text = module.read_text()
    assert text.count(mutant.there) == 1, f"{mutant.name}: the place is not in {module} once; find it anew"
    copy = folder / package
    _link_all(ROOT / room / package, copy, "/".join(inside))
    (copy / "/".join(inside)).write_text(text.replace(mutant.there, mutant.instead))
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", HUNT, json.dumps(list(seeds))]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return Death(*json.loads(child.stdout)) if child.stdout else None


def _link_all(package: Path, copy: Path, without: str) -> None:
    """The package as links, and compiled code as it lies there; but for one module."""
    (copy / "__pycache__").mkdir(parents=True)
    for path in [*package.iterdir(), *(package / "__pycache__").glob("*.pyc")]:
        place = copy / path.relative_to(package)
        if path.name not in ("__pycache__", without) and not path.name.startswith(f"{without.removesuffix('.py')}."):
            place.symlink_to(path)


CORE = "core/grafos_core/"
SCHEDULER = "scheduler/grafos_scheduler/"
CELL = "cell/grafos_cell/"

MUTANTS = (
    Mutant(
        "what is held already does not count against the cap",
        "money",
        f"{CORE}ledger.py",
        "        return self.cap_micro_cents - self.spent_micro_cents - self.held_micro_cents\n",
        "        return self.cap_micro_cents - self.spent_micro_cents\n",
    ),
    Mutant(
        "a renewed period of an instance is billed from the first one on",
        "money",
        f"{SCHEDULER}service_money.py",
        "holds=instance.holds + 1, billed_from=draft.now)",
        "holds=instance.holds + 1, billed_from=instance.billed_from or draft.now)",
    ),
    Mutant(
        "the hold of an instance that has ended stays open",
        "money",
        f"{SCHEDULER}service_money.py",
        "    draft.book(ledger.settle(draft.ledger, held.hold_id, actual))\n"
        "    draft.remove(ledger.HOLD, held.hold_id)\n",
        "    if instance.state != 'ended':\n        return replace(instance, hold_id='')\n",
    ),
    Mutant(
        "a run costs twice what its receipt shows",
        "money",
        f"{SCHEDULER}runs.py",
        "    actual = min(actual, held)\n",
        "    actual = min(2 * actual, held)\n",
    ),
    Mutant(
        "a region that costs nothing costs a micro-cent",
        "money",
        f"{SCHEDULER}regions.py",
        "    draft.book(ledger.settle(draft.ledger, region.lease_id, actual))\n",
        "    draft.book(ledger.settle(draft.ledger, region.lease_id, actual or 1))\n",
    ),
    Mutant(
        "an instance is replaced when its leases run out, by one clock alone",
        "fence",
        f"{SCHEDULER}service_instances.py",
        "    return instance.serves_until + draft.state.settings.clock_skew_max_s + FENCE_MARGIN_S\n",
        "    return instance.serves_until\n",
    ),
    Mutant(
        "a slot is filled anew while the instance before is only fenced",
        "fence",
        f"{SCHEDULER}services.py",
        "    taken = {instance.slot for instance in state.instances_of(service.key)}\n",
        "    taken = {instance.slot for instance in state.instances_of(service.key) if instance.state != FENCED}\n",
    ),
    Mutant(
        "an instance goes on when its listener lease has ended",
        "fence",
        f"{CELL}broker_leases.py",
        "        broker_instances.stop(draft, user, "
        "broker_instances.FENCED if broker_instances.is_fenced(draft, user) else code)\n",
        "        draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))\n",
    ),
    Mutant(
        "a lease that is being torn down takes no room any more",
        "fence",
        f"{SCHEDULER}leases.py",
        "COUNTED = frozenset({ASKED, HELD, TEARING}) | OUT_OF_USE\n",
        "COUNTED = frozenset({ASKED, HELD}) | OUT_OF_USE\n",
    ),
    Mutant(
        "a token of an older generation opens its lease",
        "fence",
        f"{CELL}broker_tokens.py",
        "    if lease.generation != claims.generation:\n",
        "    if lease.generation < claims.generation:\n",
    ),
    Mutant(
        "a fence is forgotten when the daemon starts",
        "fence",
        f"{CELL}broker_leases.py",
        "        elif lease.state in (BOUND, CLOSING):\n            ended = ",
        "        elif lease.state in (BOUND, CLOSING, FENCED):\n            ended = ",
    ),
    Mutant(
        "a service without an instance is forgotten",
        "acknowledgement",
        f"{SCHEDULER}services.py",
        "    if service.removing:\n        if not standing:\n",
        "    if service.removing or not standing:\n        if not standing:\n",
    ),
    Mutant(
        "a reservation is forgotten when it is settled",
        "acknowledgement",
        f"{SCHEDULER}reservations.py",
        "settled_at + KEY_KEPT_S > draft.now",
        "settled_at > draft.now",
    ),
    Mutant(
        "a cell forgets the end of a run with its next link",
        "acknowledgement",
        f"{CELL}broker.py",
        "                if run.ended is not None:\n                    draft.report(run.ended)\n",
        "                if run.ended is not None:\n                    draft.forget(holdings.RUN, run.run_id)\n",
    ),
    Mutant(
        "a run that was asked for again is another run",
        "acknowledgement",
        f"{SCHEDULER}admission.py",
        "    if run_id is None:\n        return None\n    run = state.runs[run_id]\n",
        "    run = state.runs.get(run_id or '')\n    if run is None or run.state == 'running':\n        return None\n",
    ),
    Mutant(
        "the end of a run is in memory alone",
        "acknowledgement",
        f"{SCHEDULER}runs.py",
        "    else:\n        draft.put_run(ended)\n    return ended\n",
        "    else:\n        draft.remember(rows.RUN, ended.run_id, ended)\n    return ended\n",
    ),
    Mutant(
        "an ended run is kept for half a minute",
        "acknowledgement",
        f"{SCHEDULER}retention.py",
        "age_s > state.settings.runs_kept_s or",
        "age_s > 30.0 or",
    ),
)
