"""The trust folder: made once, finished after a cut, renewed in time, and readable by nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafos_core import trust
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.tokens import check_api_token
from grafos_core.virtual_machines import HOST
from grafos_scheduler.credentials import LEAF_LIFE_S, open_credentials
from grafos_scheduler.settings import Settings

FILES = {"ca-key.pem", "ca.pem", "server-key.pem", "server.pem", "token-key", "cell-key.pem", "cell.pem", "cell-token"}


def settings_of(tmp_path: Path, **changes: object) -> Settings:
    given = {
        "fabric": "fab-0123456789ab",
        "scheduler_id": "cell-1",
        "providers": ("local",),
        "region": "here",
        "address": "127.0.0.1",
        "port": 0,
        "state": tmp_path / "state",
        "trust": tmp_path / "trust",
    }
    return Settings(**{**given, **changes})


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_first_start_makes_everything_private(tmp_path: Path, clock: VirtualClock) -> None:
    open_credentials(settings_of(tmp_path), clock)
    assert set(contents(tmp_path / "trust")) == FILES
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "trust").iterdir()} == {0o600}


def test_a_later_start_keeps_all_keys_and_certificates(tmp_path: Path, clock: VirtualClock) -> None:
    open_credentials(settings_of(tmp_path), clock)
    before = contents(tmp_path / "trust")
    clock.advance(3600)
    open_credentials(settings_of(tmp_path), clock)
    after = contents(tmp_path / "trust")
    assert {name for name in FILES if before[name] != after[name]} <= {"cell-token"}


@pytest.mark.parametrize("lost", sorted(FILES - {"ca-key.pem"}))
def test_a_start_that_was_cut_short_is_finished_by_the_next(tmp_path: Path, clock: VirtualClock, lost: str) -> None:
    open_credentials(settings_of(tmp_path), clock)
    (tmp_path / "trust" / lost).unlink()
    credentials = open_credentials(settings_of(tmp_path), clock)
    assert set(contents(tmp_path / "trust")) == FILES
    trust.check_issued_by(credentials.server_pem, credentials.ca_pem, at=clock.now())
    trust.check_issued_by((tmp_path / "trust" / "cell.pem").read_text(), credentials.ca_pem, at=clock.now())


def test_certificates_name_who_they_are_for(tmp_path: Path, clock: VirtualClock) -> None:
    credentials = open_credentials(settings_of(tmp_path), clock)
    server = trust.check_issued_by(credentials.server_pem, credentials.ca_pem, at=clock.now())
    cell = trust.check_issued_by((tmp_path / "trust" / "cell.pem").read_text(), credentials.ca_pem, at=clock.now())
    assert (server.kind, server.name, server.fabric) == ("scheduler", "cell-1", "fab-0123456789ab")
    assert (cell.kind, cell.name, cell.provider) == ("cell", "cell-1", "local")
    claims = check_api_token(
        credentials.token_key, (tmp_path / "trust" / "cell-token").read_text(), cell.key_sha256, clock.now()
    )
    assert (claims.kind, claims.name) == ("cell", "cell-1")


def test_another_address_gets_another_server_certificate_from_the_same_ca(tmp_path: Path, clock: VirtualClock) -> None:
    before = open_credentials(settings_of(tmp_path), clock)
    after = open_credentials(settings_of(tmp_path, names=("198.51.100.7",)), clock)
    assert before.server_pem != after.server_pem
    assert before.ca_pem == after.ca_pem


@pytest.mark.parametrize(
    ("mode", "address", "more"),
    [("orchestrator", "127.0.0.1", {HOST}), ("orchestrator", "192.0.2.1", set()), ("cell", "127.0.0.1", set())],
)
def test_an_orchestrator_on_loopback_is_also_there_for_virtual_machines_on_this_one(
    tmp_path: Path, clock: VirtualClock, mode: str, address: str, more: set[str]
) -> None:
    open_credentials(settings_of(tmp_path, mode=mode, address=address), clock)
    names = trust.addresses_of((tmp_path / "trust" / "server.pem").read_text())
    assert names == {address, *more}


def test_a_start_renews_what_is_past_the_middle_of_its_life(tmp_path: Path, clock: VirtualClock) -> None:
    before = open_credentials(settings_of(tmp_path), clock)
    clock.advance(LEAF_LIFE_S * 0.6)
    after = open_credentials(settings_of(tmp_path), clock)
    assert before.server_pem != after.server_pem
    trust.check_issued_by(after.server_pem, before.ca_pem, at=clock.now() + LEAF_LIFE_S * 0.9)


def test_what_clients_see_is_renewed_while_the_scheduler_runs(tmp_path: Path, clock: VirtualClock) -> None:
    credentials = open_credentials(settings_of(tmp_path), clock)
    before = credentials.server_pem
    assert not credentials.renew_server(clock.now() + LEAF_LIFE_S * 0.4)
    assert credentials.renew_server(clock.now() + LEAF_LIFE_S * 0.6)
    assert credentials.server_pem != before
    assert credentials.server_der == trust.certificate_der((tmp_path / "trust" / "server.pem").read_text())
    trust.check_issued_by(credentials.server_pem, credentials.ca_pem, at=clock.now() + LEAF_LIFE_S * 1.5)


@pytest.mark.parametrize("damaged", ["ca-key.pem", "ca.pem", "server-key.pem", "token-key"])
def test_a_damaged_file_is_told_and_not_replaced(tmp_path: Path, clock: VirtualClock, damaged: str) -> None:
    open_credentials(settings_of(tmp_path), clock)
    (tmp_path / "trust" / damaged).write_bytes(b"-----BEGIN NOTHING-----\n")
    with pytest.raises(GrafosError) as caught:
        open_credentials(settings_of(tmp_path), clock)
    assert caught.value.code in ("config_invalid", "identity_not_pinned")
    assert (tmp_path / "trust" / damaged).read_bytes() == b"-----BEGIN NOTHING-----\n"


def test_an_orchestrator_has_an_account_key_and_no_cell_of_its_own(tmp_path: Path, clock: VirtualClock) -> None:
    settings = settings_of(tmp_path, scheduler_id="orchestrator", providers=("aws", "gcp"), mode="orchestrator")
    key = open_credentials(settings, clock).account_key
    assert set(contents(tmp_path / "trust")) == {*FILES, "account-key.pem"} - {"cell-key.pem", "cell.pem", "cell-token"}
    assert open_credentials(settings, clock).account_key.private_bytes_raw() == key.private_bytes_raw()
    (tmp_path / "trust" / "account-key.pem").write_bytes((tmp_path / "trust" / "ca-key.pem").read_bytes())
    with pytest.raises(GrafosError) as caught:
        open_credentials(settings, clock)
    assert caught.value.code == "config_invalid"
