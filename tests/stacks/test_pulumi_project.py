"""The root as a plain Pulumi project, by the engine's own command line, with no program of ours around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from parts_program import REGION
from pulumi_ground import emulated_aws
from pulumi_plain import Plain

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600)]


@pytest.mark.deep
def test_the_root_is_previewed_made_left_alone_and_destroyed_by_plain_commands(tmp_path: Path) -> None:
    with emulated_aws(tmp_path, boots=True) as aws:
        plain = Plain(tmp_path / "project", {"provider": "aws", "region": REGION, "ttl": "2h", "cellId": "build"})
        assert "+ 13 to create" in plain.done("preview")
        assert aws.world() == ()
        plain.up()
        assert plain.outputs()["cell_id"] == ["build"]
        plain.up("--expect-no-changes")
        plain.done("config", "set", "grafos:secretKey", "x")
        code, refused = plain("preview")
        assert (code != 0, "grafos:secretKey is no setting of grafos" in refused) == (True, True), refused
        plain.set()
        plain.destroy()
        assert aws.world() == ()
