"""Write requirements/*.txt: every third-party package that grafos runs on, by version and hash.

One universal resolution per file serves Linux on amd64 and arm64 and every Python from 3.11 on. The rooms
themselves are left out (they are installed from the tree) and so is the address of any registry.
`tools/lock.py --upgrade` also takes what is new; without it only what a pyproject asks for changes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "scheduler", "cell", "cellimage", "connectors", "stacks", "emulators", "cli", "testkit")

# Which rooms, extras and groups each lock answers for. dev comes first and binds the others, so that what
# is tested is what runs. cell.txt is also the lock of the software bundle that a bare machine receives, so
# it must stay as small as the cell itself.
DEV = "requirements/dev.txt"
WITH_EXTRAS = [
    *("cli/pyproject.toml", "--extra", "zig"),
    *("scheduler/pyproject.toml", "--extra", "postgresql"),
    *("stacks/pyproject.toml", "--extra", "pulumi"),
]
LOCKS: dict[str, list[str]] = {
    "dev": [*WITH_EXTRAS, "--group", "pyproject.toml:dev"],
    "cli": [*WITH_EXTRAS, "--constraint", DEV],
    "cell": ["core/pyproject.toml", "scheduler/pyproject.toml", "cell/pyproject.toml", "--constraint", DEV],
}


def compile_lock(name: str, sources: list[str], extra_options: list[str]) -> None:
    """Resolve one lock in place; what is already pinned in it stays unless it no longer fits."""
    options = [
        "--universal",
        "--python-version=3.11",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--no-annotate",
        "--custom-compile-command=make locks",
        "--quiet",
    ]
    options.extend(f"--no-emit-package=grafos-{room}" for room in ROOMS)
    target = f"requirements/{name}.txt"
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, *extra_options, *sources, "-o", target]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Compile all locks; the tool's own words reach the terminal when one cannot be resolved."""
    for name, sources in LOCKS.items():
        try:
            compile_lock(name, sources, sys.argv[1:])
        except subprocess.CalledProcessError as failed:
            sys.exit(failed.returncode)
        print(f"requirements/{name}.txt")


if __name__ == "__main__":
    main()
