from __future__ import annotations

from importlib.util import find_spec

import pytest

from grafos_cellimage import disk, overlay
from grafos_cellimage.plan import MACHINES, MIB, plan_for
from grafos_cellimage.record import GIB
from grafos_core.errors import GrafosError


@pytest.mark.parametrize("arch", MACHINES)
def test_a_disk_is_one_gib_and_its_partitions_lie_on_whole_mebibytes(arch: str) -> None:
    sizes = plan_for(arch).sizes
    assert (sizes.lead + sizes.boot + sizes.state + sizes.tail, sizes.disk) == (GIB, GIB)
    assert all(size % MIB == 0 and size > 0 for size in (sizes.lead, sizes.boot, sizes.state, sizes.tail))


def test_the_ids_of_a_disk_are_its_plans_own_and_always_the_same() -> None:
    tables = {disk.table(plan_for(arch)) for arch in MACHINES for _ in range(2)}
    assert len(tables) == len(MACHINES)


@pytest.mark.parametrize(("arch", "suite"), [("riscv64", "trixie"), ("amd64", "buster"), ("", "trixie")])
def test_what_nobody_has_tried_is_refused(arch: str, suite: str) -> None:
    with pytest.raises(GrafosError) as refused:
        plan_for(arch, suite)
    assert (refused.value.code, "amd64 or arm64" in refused.value.next) == ("unsupported", True)


def test_nobody_can_log_in_and_nothing_listens_but_for_what_the_cell_needs() -> None:
    tree = overlay.overlay(plan_for("amd64"))
    for unit in ("getty@.service", "serial-getty@.service", "debug-shell.service", "emergency.service"):
        assert tree[f"etc/systemd/system/{unit}"].link == "/dev/null"
    assert not any(name.endswith(".socket") for name in tree if "wants" in name and "networkd" not in name)


def test_systemd_itself_waits_for_the_power_button() -> None:
    """No process does; that it is heard, a boot shows."""
    plan = plan_for("amd64")
    tree = overlay.overlay(plan)
    assert b"power-button@%k.socket" in tree["etc/udev/rules.d/90-power-button.rules"].data
    assert b"ListenSpecial=/dev/input/%I\n" in tree["etc/systemd/system/power-button@.socket"].data
    service = tree["etc/systemd/system/power-button@.service"].data
    assert b"SuccessAction=poweroff\n" in service
    assert b"Exec" not in service
    assert not any("drivers/input/evdev.ko".startswith(f"{dropped}/") for dropped in plan.modules_dropped)


def test_each_of_our_units_runs_a_module_of_the_cell_that_exists() -> None:
    tree = overlay.overlay(plan_for("arm64"))
    for unit, module in overlay.RUNS.items():
        assert f"run.py {module}\n" in tree[f"etc/systemd/system/{unit}"].data.decode()
        assert find_spec(module)


def test_every_unit_that_is_started_is_there() -> None:
    """Those of ours in the overlay; Debian's are looked for in the baked root."""
    tree = overlay.overlay(plan_for("amd64"))
    wanted = {node.link.removeprefix("/") for name, node in tree.items() if ".wants/" in name}
    assert {name for name in wanted if name.startswith("etc/")} <= set(tree)
