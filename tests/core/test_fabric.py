from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, export_key, fabric_home, import_key, open_fabric, tenant_account
from grafos_core.money import from_cents

CLOCK = SystemClock()


def test_the_first_use_makes_the_fabric_says_so_once_and_keeps_it_private() -> None:
    said: list[str] = []
    fabric = open_fabric(CLOCK, announce=said.append)
    again = open_fabric(CLOCK, announce=said.append)
    assert fabric.id == again.id
    assert len(said) == 1
    assert "2,000 cents" in said[0]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in fabric.home.iterdir()}
    assert set(modes) == {"fabric-key.pem", "fabric.json", "ledger.db"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(fabric.home.stat().st_mode) == 0o700
    with fabric.ledger() as transaction:
        accounts = transaction.ledger.accounts
        assert accounts[OPERATOR_ACCOUNT].cap_micro_cents == from_cents(2000)
        assert accounts[tenant_account("default")].cap_micro_cents == from_cents(2000)


def _use_first(queue: multiprocessing.Queue[str]) -> None:
    fabric = open_fabric(CLOCK)
    with fabric.ledger() as transaction:
        name = multiprocessing.current_process().name
        transaction.write(ledgers.hold(transaction.ledger, name, OPERATOR_ACCOUNT, from_cents(300), "a cell"))
    queue.put(fabric.id)


def test_processes_that_come_first_at_once_make_one_fabric_and_never_pass_its_cap() -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=_use_first, args=(queue,), name=f"w{number}") for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    fabric = open_fabric(CLOCK)
    with fabric.ledger() as transaction:
        account = transaction.ledger.account(OPERATOR_ACCOUNT)
    assert {queue.get(timeout=60) for _ in range(6)} == {fabric.id}
    assert account.held_micro_cents == from_cents(1800), "six of eight holds of 300 fit under 2,000"
    assert sorted(worker.exitcode or 0 for worker in workers) == [0, 0, 0, 0, 0, 0, 1, 1]


def test_what_fails_inside_a_transaction_leaves_the_ledger_as_it_was() -> None:
    fabric = open_fabric(CLOCK)

    def hold_and_be_interrupted() -> None:
        with fabric.ledger() as transaction:
            transaction.write(ledgers.hold(transaction.ledger, "h", OPERATOR_ACCOUNT, 5, "a cell"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hold_and_be_interrupted()
    with fabric.ledger() as transaction:
        assert transaction.ledger.holds == {}


@pytest.mark.parametrize("files", [("ledger.db", "fabric.json"), ("fabric.json",)])
def test_a_first_use_that_was_cut_short_is_completed_by_the_next(files: tuple[str, ...]) -> None:
    fabric = open_fabric(CLOCK)
    for file in files:
        (fabric.home / file).unlink()
    again = open_fabric(CLOCK)
    assert again.id == fabric.id
    with again.ledger() as transaction:
        assert OPERATOR_ACCOUNT in transaction.ledger.accounts


def test_a_ledger_that_was_lost_is_not_replaced_by_one_with_whole_caps() -> None:
    fabric = open_fabric(CLOCK)
    with fabric.ledger() as transaction:
        transaction.write(ledgers.hold(transaction.ledger, "h", OPERATOR_ACCOUNT, from_cents(1900), "a cell"))
    fabric.ledger_file.unlink()
    with pytest.raises(GrafosError) as error, open_fabric(CLOCK).ledger():
        pass
    assert error.value.code == "fabric_invalid"
    assert "fabric.json" in error.value.next
    assert not fabric.ledger_file.exists()
    fabric.ledger_file.touch()
    with pytest.raises(GrafosError) as error, open_fabric(CLOCK).ledger():
        pass
    assert error.value.code == "fabric_invalid", "an empty file is a lost ledger too"


def test_a_bug_inside_a_transaction_is_not_blamed_on_the_ledger() -> None:
    def look_up_what_is_not_there() -> None:
        with open_fabric(CLOCK).ledger() as transaction:
            transaction.ledger.accounts["nobody"]

    with pytest.raises(KeyError):
        look_up_what_is_not_there()


def test_looking_at_the_ledger_writes_nothing() -> None:
    fabric = open_fabric(CLOCK)
    before = fabric.ledger_file.read_bytes()
    with fabric.ledger():
        pass
    assert fabric.ledger_file.read_bytes() == before


@pytest.mark.parametrize("file", ["fabric-key.pem", "ledger.db"])
def test_a_file_that_cannot_be_read_is_one_clear_error_and_is_not_touched(file: str) -> None:
    fabric = open_fabric(CLOCK)
    (fabric.home / file).write_bytes(b"not what it was" * 100)
    with pytest.raises(GrafosError) as error, open_fabric(CLOCK).ledger():
        pass
    assert error.value.code == "fabric_invalid"
    assert file in error.value.where
    assert error.value.next
    assert (fabric.home / file).read_bytes() == b"not what it was" * 100


def test_a_ledger_of_a_newer_version_is_refused() -> None:
    fabric = open_fabric(CLOCK)
    with sqlite3.connect(fabric.ledger_file) as connection:
        connection.execute("UPDATE meta SET value = 999 WHERE name = 'schema_version'")
    connection.close()
    with pytest.raises(GrafosError) as error, fabric.ledger():
        pass
    assert error.value.code == "schema_newer"


def test_secrets_and_tag_signatures_hang_on_the_key_and_the_purpose() -> None:
    one, other = open_fabric(CLOCK, "one"), open_fabric(CLOCK, "other")
    assert one.derive_secret("claim/a") == open_fabric(CLOCK, "one").derive_secret("claim/a")
    secrets = {one.derive_secret("claim/a"), one.derive_secret("claim/b"), other.derive_secret("claim/a")}
    assert len(secrets) == 3
    signature = one.tag_signature("machine", "key")
    assert one.tag_signature_holds(signature, "machine", "key")
    assert not one.tag_signature_holds(signature, "machinek", "ey")
    assert not other.tag_signature_holds(signature, "machine", "key")
    for foreign in ("", "ä" * 32, "\ud800", signature[:-1]):
        assert not one.tag_signature_holds(foreign, "machine", "key"), "a stranger's tag may hold anything"


def test_a_fabric_remembers_that_it_has_provisioned() -> None:
    fabric = open_fabric(CLOCK)
    assert not fabric.has_provisioned
    fabric.note_provisioned()
    assert open_fabric(CLOCK).has_provisioned


# --- the key on its way -------------------------------------------------------------------------------------------


def exported(tmp_path: Path, name: str = "default") -> Path:
    file = tmp_path / f"{name}.pem"
    export_key(open_fabric(CLOCK, name), file)
    return file


def refusal(act: Callable[[], object]) -> GrafosError:
    with pytest.raises(GrafosError) as error:
        act()
    assert error.value.next
    return error.value


def test_an_exported_key_is_private_and_never_written_over_another_file(tmp_path: Path) -> None:
    file = exported(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert refusal(lambda: export_key(open_fabric(CLOCK, "other"), file)).code == "config_invalid"
    assert file.read_bytes() == before
    assert refusal(lambda: export_key(open_fabric(CLOCK), tmp_path / "no" / "folder.pem")).code == "store_failed"


def test_an_imported_key_makes_the_same_fabric_elsewhere_and_both_know_that_they_are_two(tmp_path: Path) -> None:
    file = exported(tmp_path, "here")
    there = import_key(CLOCK, file, "there")
    here = open_fabric(CLOCK, "here")
    assert there.id == here.id
    assert there.derive_secret("claim/a") == here.derive_secret("claim/a")
    assert stat.S_IMODE((there.home / "fabric-key.pem").stat().st_mode) == 0o600
    assert (here.is_shared, there.is_shared, open_fabric(CLOCK, "third").is_shared) == (True, True, False)
    assert import_key(CLOCK, file, "there").id == here.id, "once more changes nothing"


def test_a_key_that_is_missing_is_not_replaced_by_a_new_one_and_can_be_given_back(tmp_path: Path) -> None:
    file = exported(tmp_path)
    fabric = open_fabric(CLOCK)
    with fabric.ledger() as transaction:
        transaction.write(ledgers.hold(transaction.ledger, "h", OPERATOR_ACCOUNT, 5, "a cell"))
    (fabric.home / "fabric-key.pem").unlink()
    lost = refusal(lambda: open_fabric(CLOCK))
    assert lost.code == "fabric_invalid"
    assert fabric.id in lost.what
    again = import_key(CLOCK, file)
    assert again.id == fabric.id
    with again.ledger() as transaction:
        assert transaction.ledger.holds["h"].amount_micro_cents == 5


@pytest.mark.parametrize("lost", [(), ("fabric-key.pem",), ("fabric-key.pem", "fabric.json")])
def test_a_key_is_never_put_to_another_fabric_s_ledger(tmp_path: Path, lost: tuple[str, ...]) -> None:
    file = exported(tmp_path, "other")
    fabric = open_fabric(CLOCK)
    for name in lost:
        (fabric.home / name).unlink()
    before = {path.name: path.read_bytes() for path in fabric.home.iterdir()}
    assert refusal(lambda: import_key(CLOCK, file)).code == "fabric_mismatch"
    assert {path.name: path.read_bytes() for path in fabric.home.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"no key", None])
def test_what_is_no_key_is_not_imported(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    assert refusal(lambda: import_key(CLOCK, file, "new")).code == "fabric_invalid"
    assert not fabric_home("new").exists()
