"""Canaries in the place of secrets, looked for in all that Pulumi writes: state, history, events and logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pulumi_ground import CANARY, emulated_aws
from pulumi_plain import PARTS_ONLY, Plain

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600), pytest.mark.deep]

SECRET = "203.0.113.77"
"""An input that was set as a secret: whose address may reach the cell."""


def test_no_credential_is_written_anywhere_and_a_secret_input_never_in_clear(tmp_path: Path) -> None:
    with emulated_aws(tmp_path):
        os.environ["AWS_SESSION_TOKEN"] = CANARY
        plain = Plain(tmp_path / "project", {"provider": "aws", "region": "us-east-1"}, PARTS_ONLY)
        plain.done("config", "set", "--secret", "grafos:allow", f"{SECRET}/32")
        plain.up()
        written = [file for file in plain.folder.rglob("*") if file.is_file() and not file.is_symlink()]
        logs = [file for file in written if file.is_relative_to(plain.home / "logs")]
        assert len(logs) > 1
        for secret in (CANARY, SECRET):
            assert [file for file in written if secret.encode() in file.read_bytes()] == []
        told = [plain("logs", "decrypt", str(log))[1] for log in logs]
        assert [text[:80] for text in told if CANARY in text] == []
        assert any("grafos:cell:Machine" in text for text in told), "what was decrypted is what was logged"
        plain.destroy()
