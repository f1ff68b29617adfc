from __future__ import annotations

import multiprocessing
import sqlite3
import stat

import pytest

from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, open_fabric, tenant_account
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
    assert {queue.get(timeout=5) for _ in range(6)} == {fabric.id}
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
