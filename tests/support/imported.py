"""What a command line has imported when it is done: that, and no clock, is what makes it slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = {
    "asyncio", "boto3", "botocore", "cryptography", "jinja2", "moto", "msgspec", "rich", "sqlite3", "ssl", "uvicorn",
    "uvloop", "wasmtime",
}  # fmt: skip


def imported_by(*words: str, cwd: Path, **env: str) -> set[str]:
    """The top-level names and our own modules that a command line has imported when it is done."""
    program = (
        "import sys, json, io; from grafos_cli.main import run; sys.stdout = io.StringIO();"
        f"run({list(words)!r}); sys.stdout = sys.__stdout__; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **env},
    )
    names = set(json.loads(done.stdout))
    return {name.split(".")[0] for name in names} | {name for name in names if name.startswith("grafos_")}
