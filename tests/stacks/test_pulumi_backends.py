"""A team keeps the state of its stacks in one place, by URL, sealed with its own passphrase; a lock of the dead shuts
nobody out for ever. PostgreSQL is real here."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts_program import REGION, parts_only
from postgresql import PASSWORD, USER, Server
from pulumi_ground import emulated_aws, engine_in_path, fabric, machines

from grafos_core.errors import GrafosError
from grafos_emulators.emulator import EmulatedClouds
from grafos_stacks.pulumi.at_hand import PROJECT
from grafos_stacks.pulumi.engine import EngineStack, Workplace

pytestmark = [
    pytest.mark.needs("pulumi"),
    pytest.mark.needs("postgresql"),
    pytest.mark.deep,
    pytest.mark.timeout(600),
]
ASKED = {"provider": "aws", "region": REGION}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    try:
        yield server.start()
    finally:
        server.discard()


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[EmulatedClouds]:
    with emulated_aws(tmp_path) as aws:
        engine_in_path()
        yield aws


def test_a_team_keeps_its_state_in_postgresql_and_each_says_what_holds_it(
    aws: EmulatedClouds, server: Server, tmp_path: Path
) -> None:
    """One passphrase, one state: what one made another destroys; the password is the database tools' own affair."""
    os.environ["PGPASSWORD"], os.environ["PULUMI_CONFIG_PASSPHRASE"] = PASSWORD, "the team's"
    url = f"postgres://{USER}@127.0.0.1:{server.port}/{server.make('state')}?sslmode=disable"
    mine = Workplace(fabric(), tmp_path, url)
    EngineStack(mine, "dev", ASKED, parts_only).up()
    assert len(machines(aws)) == 1
    another = Workplace(fabric(), tmp_path, url, work=tmp_path / "elsewhere")
    stack = EngineStack(another, "dev", ASKED, parts_only)
    assert stack.cells() != ()
    hold(server, pid=os.getpid())
    with pytest.raises(GrafosError) as held:
        stack.refresh()
    assert (held.value.code, f"process {os.getpid()} of somebody on" in held.value.what) == ("stack_busy", True)
    hold(server, pid=DEAD)
    stack.destroy()
    assert aws.world() == ()
    assert PASSWORD not in "".join(file.read_text(errors="replace") for file in mine.home.rglob("*") if file.is_file())


DEAD = 2**22 + 1
"""No process of Linux has such a number."""


def hold(server: Server, pid: int) -> None:
    """A lock as an engine writes it, in place of any other."""
    about = {"pid": pid, "username": "somebody", "hostname": socket.gethostname(), "timestamp": "2026-11-21T00:00:00Z"}
    row = json.dumps({"data": base64.b64encode(json.dumps(about).encode()).decode()})
    key = f"state/.pulumi/locks/organization/{PROJECT}/dev/one.json"
    insert = f"INSERT INTO pulumi_state (key, data) VALUES ('{key}', '{row}')"  # noqa: S608  all of it is ours
    server.sql("state", f"{insert} ON CONFLICT (key) DO UPDATE SET data = excluded.data")
