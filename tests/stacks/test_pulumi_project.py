"""The root as a plain Pulumi project, by the engine's own command line, with no program of ours around it.

The official language host for Python is not to be had where only registries answer; a small one of the tests stands in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pulumi_ground import REGION, emulated_aws, engine_in_path
from source_tree import ROOT

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600)]

HOST = ROOT / "tests" / "support" / "language_host"
Pulumi = Callable[..., subprocess.CompletedProcess[str]]


def project_in(folder: Path) -> Pulumi:
    """A copy of the root as far as Pulumi sees it, and the way to speak to `pulumi` in it."""
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    for name in ("stacks", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    engine_in_path()
    (folder / "state").mkdir()
    settings = {
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",  # by itself it goes to the home that the system knows
        "PULUMI_HOME": str(folder / "pulumi-home"),
        "PATH": f"{HOST}{os.pathsep}{os.environ['PATH']}",
        "PULUMI_CONFIG_PASSPHRASE": "of this test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }

    def pulumi(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["pulumi", *words, "--non-interactive", "--color", "never"]
        return subprocess.run(
            command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )

    return pulumi


def outputs(pulumi: Pulumi) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(pulumi("stack", "output", "--json").stdout)
    return told


@pytest.mark.deep
def test_the_root_is_previewed_made_left_alone_and_destroyed_by_plain_commands(tmp_path: Path) -> None:
    with emulated_aws(tmp_path, boots=True) as aws:
        pulumi = project_in(tmp_path)
        assert pulumi("stack", "init", "dev").returncode == 0
        for name, value in {"provider": "aws", "region": REGION, "ttl": "2h", "cellId": "build"}.items():
            assert pulumi("config", "set", f"grafos:{name}", value).returncode == 0
        shown = pulumi("preview")
        assert (shown.returncode, "+ 13 to create" in shown.stdout) == (0, True), shown.stdout + shown.stderr
        assert aws.world() == ()
        made = pulumi("up", "--yes", "--skip-preview")
        assert made.returncode == 0, made.stdout + made.stderr
        assert outputs(pulumi)["cell_id"] == ["build"]
        again = pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
        assert again.returncode == 0, again.stdout + again.stderr
        assert pulumi("config", "set", "grafos:secretKey", "x").returncode == 0
        refused = pulumi("preview")
        assert "grafos:secretKey is no setting of grafos" in refused.stdout + refused.stderr
        assert pulumi("config", "rm", "grafos:secretKey").returncode == 0
        gone = pulumi("destroy", "--yes", "--skip-preview")
        assert (gone.returncode, aws.world()) == (0, ()), gone.stdout + gone.stderr
