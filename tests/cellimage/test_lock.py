from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from grafos_cellimage.lock import KERNEL, STUB, SYSTEM, TOOL, changes, open_lock, read_lock, shipped, write_lock
from grafos_cellimage.plan import MACHINES, plan_for
from grafos_core.errors import GrafosError

PLANS = [plan_for(arch) for arch in MACHINES]
CELL_LOCK = Path(__file__).parents[2] / "requirements" / "cell.txt"


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_the_lock_that_grafos_brings_pins_all_of_the_plan_by_hash_and_names_no_host(plan) -> None:
    lock, _ = open_lock(plan)
    assert {*plan.packages} <= {package.name for package in lock.of_role(SYSTEM)}
    assert [len(lock.of_role(role)) for role in (KERNEL, STUB, TOOL)] == [1, 1, 2]
    assert all(re.fullmatch("[0-9a-f]{64}", one.sha256) for one in (*lock.packages, *lock.wheels))
    assert "://" not in shipped(plan).read_text()


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_the_image_has_the_wheels_of_the_cells_own_lock(plan) -> None:
    """A stock machine and a baked one run the same versions: after `make locks` the image's locks are made anew too."""
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", CELL_LOCK.read_text(), re.MULTILINE)
    lock, _ = open_lock(plan)
    assert {(wheel.name, wheel.version) for wheel in lock.wheels} <= set(pins)
    assert {"cryptography", "msgspec", "wasmtime"} <= {wheel.name for wheel in lock.wheels}
    assert all(wheel.sha256 in CELL_LOCK.read_text() for wheel in lock.wheels)


def test_nothing_that_lets_somebody_in_or_installs_is_in_the_plan() -> None:
    names = {package.name for plan in PLANS for package in open_lock(plan)[0].of_role(SYSTEM)}
    assert names & {"openssh-server", "openssh-client", "sudo", "apt", "cloud-init", "curl", "wget"} == set()


def test_a_lock_is_read_as_it_was_written_one_package_to_a_line() -> None:
    plan = PLANS[0]
    lock, _ = open_lock(plan)
    text = write_lock(lock)
    assert read_lock(text.encode(), "here", plan) == lock
    assert sum('"sha256"' in line for line in text.splitlines()) == len(lock.packages + lock.wheels + lock.archives)


def test_a_lock_of_another_machine_a_torn_one_and_a_newer_one_are_refused(tmp_path: Path) -> None:
    plan, other = PLANS
    newer = msgspec.structs.replace(open_lock(plan)[0], format=99)
    for data in (shipped(other).read_bytes(), shipped(plan).read_bytes()[:500], write_lock(newer).encode()):
        file = tmp_path / "lock"
        file.write_bytes(data)
        with pytest.raises(GrafosError) as refused:
            open_lock(plan, file)
        assert refused.value.code == "config_invalid"


def test_what_changed_between_two_locks_is_told_by_package() -> None:
    before, _ = open_lock(PLANS[0])
    first, second, *rest = before.packages
    newer = msgspec.structs.replace(first, version="99")
    after = msgspec.structs.replace(before, packages=(newer, *rest))
    told = changes(before, after)
    assert told == sorted([f"{first.name} {first.version} -> 99", f"{second.name} {second.version} -> (none)"])
    assert changes(before, before) == []
