"""The directory of an emulated machine: what a stock Debian offers a cell, and nothing that reaches the host.

``usr/bin`` is the machine's whole ``PATH``: Python without any installed package, a shell, and the commands of
``tools``. A program that names a path of the host gets as far as ``confinement`` lets it: it can read there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from grafos_emulators.boot.driver import AWS, AZURE, GCP, MachineSetup
from grafos_emulators.boot.image_units import FIRMWARE, SOFTWARE
from grafos_emulators.boot.orders import POWER_COMMANDS

FIRMWARE_WORDS = {
    AWS: ("bios_vendor", "Amazon EC2"),
    GCP: ("product_name", "Google Compute Engine"),
    AZURE: ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
}
"""What a cloud's firmware says of its machines."""
_DIRECTORIES = ("usr/bin", "usr/lib", "var/lib/grafos", "var/lib/cloud/scripts", "root", "tmp", "run")


def lay_out(root: Path, setup: MachineSetup) -> None:
    """Makes the machine's directory for a boot; on a later boot of the same machine, what it wrote is kept."""
    for directory in _DIRECTORIES:
        (root / directory).mkdir(parents=True, exist_ok=True)
    root.chmod(0o700)
    script = root / "var/lib/cloud/scripts/part-001"
    script.unlink(missing_ok=True)
    if setup.runs_image:
        _install_image(root, setup.runs_image, script)
    elif setup.user_data:
        script.touch(mode=0o700)
        script.write_bytes(setup.user_data)
    if not (root / "usr/pyvenv.cfg").exists():
        _install_python(root / "usr")
        _install_commands(root / "usr")
    (root / "run/environment.json").write_text(json.dumps(environment(root, setup)))


def environment(root: Path, setup: MachineSetup) -> dict[str, str]:
    """What every process of the machine finds in its environment; nothing of the emulator's own is handed down."""
    return {
        "PATH": str(root / "usr/bin"),
        "HOME": str(root / "root"),
        "USER": "root",
        "LOGNAME": "root",
        "LANG": "C.UTF-8",
        "TMPDIR": str(root / "tmp"),
        "STATE_DIRECTORY": str(root / "var/lib/grafos"),  # systemd's name for a service's own directory
        **({SOFTWARE: os.pathsep.join(filter(None, sys.path))} if setup.runs_image else {}),
        **setup.environment,
    }


def _install_image(root: Path, cloud: str, script: Path) -> None:
    """What the image's units run, and the firmware by which they know whose machine they are on."""
    _copy_program("grafos_emulators.boot.image_units", script)
    name, word = FIRMWARE_WORDS[cloud]
    (root / FIRMWARE).mkdir(parents=True, exist_ok=True)
    (root / FIRMWARE / name).write_text(f"{word}\n")


def _install_python(usr: Path) -> None:
    """This Python, with its standard library and nothing else: a virtual environment without packages."""
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (usr / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
    (usr / "bin/python3").symlink_to(interpreter)


def _install_commands(usr: Path) -> None:
    (usr / "bin/sh").symlink_to("/bin/sh")
    tool = usr / "lib/machine-tool"
    _copy_program("grafos_emulators.boot.tools", tool)
    for name in sorted(POWER_COMMANDS):
        (usr / "bin" / name).symlink_to("../lib/machine-tool")


def _copy_program(module: str, to: Path) -> None:
    source = find_spec(module)
    assert source is not None, "the program is part of this package"
    assert source.origin is not None, "and a file"
    shutil.copyfile(source.origin, to)
    to.chmod(0o755)
