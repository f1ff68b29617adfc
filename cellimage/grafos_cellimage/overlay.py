"""What an image has beyond Debian's packages and the software: its units, its settings, and what it must not have."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from grafos_cellimage.layers import Node
from grafos_cellimage.plan import ImagePlan
from grafos_cellimage.software import PLACE

ENABLED = {
    "local-fs.target": ("var-lib-private.mount",),
    "multi-user.target": (
        "grafos-cell.service",
        "grafos-end.path",
        "grafos-first-boot.service",
        "systemd-networkd.service",
    ),
    "network-online.target": ("systemd-networkd-wait-online.service",),
    "sockets.target": ("systemd-networkd.socket",),
    "sysinit.target": ("systemd-resolved.service", "systemd-timesyncd.service"),
}
"""Which units start with which; nothing else is started by Debian's own choice."""
RUN = """# Runs a module of the image's software: python3 -I -S run.py MODULE ARGUMENTS
import runpy, sys

sys.path.insert(0, "/{place}")
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
RUNS = {
    "grafos-cell.service": "grafos_cell.baked",
    "grafos-end.service": "grafos_cell.moving_end",
    "grafos-first-boot.service": "grafos_cell.first_boot",
}
"""The module that each of our units runs, in the place of ``@module@``."""
DIGEST = "usr/lib/grafos/image-sha256"
"""Where the image says of which contents it is; ``grafos_cell.inventory`` reads it there."""
UNITS = "etc/systemd/system"
OWN_UNITS = "usr/lib/systemd/system"


def overlay(plan: ImagePlan) -> dict[str, Node]:
    """All of it, by its place below the root."""
    tree = {path: Node(data) for path, data in _own_files().items()}
    for unit, module in RUNS.items():
        path = f"{UNITS}/{unit}"
        tree[path] = Node(tree[path].data.replace(b"@module@", module.encode()))
    for target, units in ENABLED.items():
        for unit in units:
            home = UNITS if f"{UNITS}/{unit}" in tree else OWN_UNITS
            tree[f"{UNITS}/{target}.wants/{unit}"] = Node(link=f"/{home}/{unit}")
    tree |= {f"{UNITS}/{unit}": Node(link="/dev/null") for unit in plan.masked}
    tree[f"{UNITS}/default.target"] = Node(link=f"/{OWN_UNITS}/multi-user.target")
    tree["etc/machine-id"] = Node(b"uninitialized\n", mode=0o444)
    tree["etc/hostname"] = Node(b"cell\n")
    tree["etc/resolv.conf"] = Node(link="../run/systemd/resolve/resolv.conf")
    tree["etc/shells"] = Node(b"# nobody logs in here\n")
    tree["usr/lib/grafos/run.py"] = Node(RUN.format(place=PLACE).encode())
    tree["init"] = Node(link="usr/lib/systemd/systemd")
    return tree


def os_release(plan: ImagePlan) -> str:
    """What the one program says that it is, to firmware and to tools that read it."""
    return f'ID=debian\nVERSION_CODENAME={plan.suite}\nIMAGE_ID=grafos-cell\nPRETTY_NAME="grafos cell"\n'


def _own_files() -> dict[str, bytes]:
    home = Path(str(files("grafos_cellimage"))) / "inside"
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}
