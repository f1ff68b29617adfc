"""What a machine with a baked image makes of what its firmware or its user data tell it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from grafos_cell import baked, first_boot
from grafos_cell.first_boot import AWS, AZURE, AZURE_CHASSIS, GCP, cloud_of, credentials_in, keep
from grafos_core.errors import GrafosError

TOLD = {
    "cell_id": "gcp-1",
    "provider": "gcp",
    "orchestrator": "https://203.0.113.7:8443",
    "ca_pem": "-----BEGIN CERTIFICATE-----",
    "bootstrap_token": "a-token",
}


def test_the_first_program_of_a_machine_loads_no_supervisor() -> None:
    program = "import sys, grafos_cell.first_boot; sys.exit('grafos_cell.standalone' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def user_data(**entry: object) -> bytes:
    return json.dumps({"systemd.credentials": [{"name": "grafos.cell", **entry}]}).encode()


@pytest.mark.parametrize(
    ("file", "words", "cloud"),
    [
        ("bios_vendor", "Amazon EC2\n", AWS),
        ("bios_vendor", "AmazonEC2\n", AWS),
        ("product_name", "Google Compute Engine\n", GCP),
        ("chassis_asset_tag", f"{AZURE_CHASSIS}\n", AZURE),
        ("product_name", "Standard PC (Q35 + ICH9, 2009)\n", ""),
        ("bios_vendor", "\xff\xfe", ""),
    ],
)
def test_a_machine_knows_its_cloud_by_what_the_firmware_says(file: str, words: str, cloud: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(words, "latin-1")
    assert cloud_of(tmp_path) == cloud


def test_credentials_come_as_text_or_as_base64_and_only_ours_are_taken() -> None:
    document = {
        "systemd.credentials": [
            {"name": "grafos.cell", "text": "{}"},
            {"name": "grafos.more", "data": base64.b64encode(b"\x00\x01").decode()},
            {"name": "passwd.hashed-password.root", "text": "let me in"},
            {"name": "grafos./../../etc/shadow", "text": "let me in"},
            "no entry",
        ]
    }
    assert credentials_in(json.dumps(document).encode()) == {"grafos.cell": b"{}", "grafos.more": b"\x00\x01"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\nrm -rf /\n",
        b"[]",
        b"{}",
        b'{"systemd.credentials": {}}',
        b'{"systemd.credentials": []}',
        user_data(),
        user_data(data="not base64!"),
        user_data(data=7),
        b"\xff\xff",
    ],
)
def test_user_data_of_another_form_are_no_credentials(data: bytes) -> None:
    with pytest.raises(first_boot.NO_ANSWER):
        credentials_in(data)


def test_credentials_are_laid_where_nobody_else_reads_them(tmp_path: Path) -> None:
    keep({"grafos.cell": b"secret"}, tmp_path / "credstore")
    assert (tmp_path / "credstore").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "credstore" / "grafos.cell").stat().st_mode & 0o777 == 0o600


def test_without_a_cloud_nobody_is_asked() -> None:
    with pytest.raises(GrafosError) as refused:
        first_boot.from_user_data("")
    assert refused.value.code == "config_invalid"


@pytest.mark.parametrize(
    "change", [{"cell_id": 7}, {"rm": "-rf"}, {"timer_at": "soon"}, {"orchestrator": None}], ids=str
)
def test_a_cell_that_is_told_something_else_says_so(change: dict[str, object]) -> None:
    with pytest.raises(GrafosError) as refused:
        baked.read_told(json.dumps({**TOLD, **change}).encode())
    assert (refused.value.code, refused.value.where) == ("config_invalid", "grafos.cell")


def test_what_a_cell_is_told_becomes_its_agents_command_line() -> None:
    told = baked.read_told(json.dumps({**TOLD, "expires_at": 1_900_000_000}).encode())
    words = baked.arguments(told, Path("/state"), Path("/state/trust"))
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given["--orchestrator"] == TOLD["orchestrator"]
    assert (given["--trust"], given["--state"], given["--expires-at"]) == ("/state/trust", "/state/cell", "1900000000")
    assert not any("token" in word for word in words), "a command line can be read by all"
