"""A backup of an orchestrator that goes on meanwhile, and an empty orchestrator that is filled from it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from orchestrator import NAME, Orchestrator
from standalone import Identity

from grafos_core.backup_archive import About, about_in, unpack_backup
from grafos_core.booking import LedgerCopy, digest_of
from grafos_core.errors import GrafosError
from grafos_core.machine_files import RESTORE_FILE
from grafos_scheduler.audit_messages import AuditQuery
from grafos_scheduler.backup import Backup
from grafos_scheduler.machine_messages import MachineOrders
from grafos_scheduler.settings import read_settings


@pytest.fixture
def orchestrator(tmp_path: Path) -> Iterator[Orchestrator]:
    folder = tmp_path / "first"
    folder.mkdir()
    started = Orchestrator(folder).start()
    yield started
    started.discard()


def another(folder: Path, before: Orchestrator, **flags: object) -> Orchestrator:
    """An orchestrator of the same fabric that nobody has claimed."""
    folder.mkdir()
    other = Orchestrator(folder, **flags)
    other.fabric = before.fabric
    return other


def operator_of(orchestrator: Orchestrator) -> Identity:
    grant = orchestrator.claim(orchestrator.request("operator"))
    operator = orchestrator.identity("operator", grant.certificate_pem, grant.api_token)
    with orchestrator.client(operator) as client:
        client.tenants()
    return operator


def test_who_starts_on_a_backup_is_the_same_orchestrator(orchestrator: Orchestrator, tmp_path: Path) -> None:
    operator = operator_of(orchestrator)
    orchestrator.employ(operator, "acme", budget_cents=123)
    orchestrator.joined(operator, "cell-1")
    with orchestrator.client(operator) as client:
        archive = client.backup()
    file = tmp_path / "backup.tar"
    file.write_bytes(archive)
    about = about_in(archive)
    assert (about.fabric, about.name, about.store) == (orchestrator.fabric.id, NAME, "sqlite")
    assert not [path for path in orchestrator.state.iterdir() if path.name.startswith("backup-")]

    later = another(tmp_path / "second", orchestrator)
    assert unpack_backup(file, later.folder) == about
    later.start()
    assert later.ca_pem == orchestrator.ca_pem
    with later.client(operator) as client:
        assert [(one.name, one.budget_micro_cents) for one in client.tenants()] == [("acme", 123_000_000)]
        assert [one.provider for one in client.providers() if one.cells] == ["aws"]
    later.discard()


def test_an_empty_orchestrator_takes_a_backup_for_its_supervisor(orchestrator: Orchestrator, tmp_path: Path) -> None:
    operator = operator_of(orchestrator)
    with orchestrator.client(operator) as client:
        archive = client.backup()
    machine = tmp_path / "machine"
    machine.mkdir()
    empty = another(tmp_path / "second", orchestrator, **{"machine-folder": machine}).start()
    with empty.client(operator_of(empty)) as client:
        assert client.restore(archive).size_bytes == len(archive)
    assert (machine / RESTORE_FILE).read_bytes() == archive
    assert (machine / RESTORE_FILE).stat().st_mode & 0o777 == 0o600
    empty.discard()


def test_one_that_ordered_a_restore_admits_nothing_that_would_be_gone_with_the_rest(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    with orchestrator.client(operator_of(orchestrator)) as client:
        archive = client.backup()
    machine = _made(tmp_path / "machine")
    empty = another(tmp_path / "second", orchestrator, **{"machine-folder": machine}).start()
    operator = operator_of(empty)
    with empty.client(operator) as client:
        client.restore(archive)
        assert client.drain().draining
    empty.discard()


def test_one_that_keeps_the_ledger_takes_no_backup(orchestrator: Orchestrator) -> None:
    with orchestrator.client(operator_of(orchestrator)) as client:
        archive = client.backup()
        copy = LedgerCopy(1, (), ())
        client.take_ledger(copy, digest_of(copy))
        with pytest.raises(GrafosError) as raised:
            client.restore(archive)
        assert raised.value.code == "request_invalid"


def test_what_was_being_packed_when_it_was_killed_is_gone_at_the_next_start(orchestrator: Orchestrator) -> None:
    operator = operator_of(orchestrator)
    (orchestrator.state / "backup-file").write_bytes(b"keys")
    (_made(orchestrator.state / "backup-folder") / "scheduler.db").write_bytes(b"rows")
    orchestrator.discard()
    orchestrator.start()
    assert list(orchestrator.state.glob("backup-*")) == []
    with orchestrator.client(operator) as client:
        client.backup()


def test_a_backup_has_no_name_while_it_is_sent(orchestrator: Orchestrator) -> None:
    """Whoever looks into the folder after a kill finds no keys."""
    operator_of(orchestrator)
    backup = Backup(read_settings(orchestrator.arguments()), [], 1.0)
    assert backup.size_bytes
    assert list(orchestrator.state.glob("backup-*")) == []
    backup.discard()


def test_one_that_has_tenants_takes_no_backup(orchestrator: Orchestrator, tmp_path: Path) -> None:
    operator = operator_of(orchestrator)
    orchestrator.employ(operator, "acme")
    with orchestrator.client(operator) as client:
        with pytest.raises(GrafosError) as raised:
            client.restore(client.backup())
        assert raised.value.code == "request_invalid"


def test_a_backup_of_another_fabric_and_what_is_none_are_refused(orchestrator: Orchestrator, tmp_path: Path) -> None:
    other = Orchestrator(_made(tmp_path / "other")).start()
    with other.client(operator_of(other)) as client:
        foreign = client.backup()
    other.discard()
    with orchestrator.client(operator_of(orchestrator)) as client:
        ours = client.backup()
        cut = ours[: ours.index(b"state/scheduler.db") + 1000]
        for archive in (foreign, foreign[:700], cut, _newer(ours, tmp_path), b"", b"nothing"):
            with pytest.raises(GrafosError) as raised:
                client.restore(archive)
            assert raised.value.code == "backup_invalid"


def test_a_machine_that_nobody_supervises_takes_no_orders(orchestrator: Orchestrator) -> None:
    with orchestrator.client(operator_of(orchestrator)) as client:
        with pytest.raises(GrafosError) as raised:
            client.order_machine(MachineOrders(ends_at=2_000_000_000.0))
        assert raised.value.code == "unsupported"


def test_orders_stand_where_the_supervisor_looks(orchestrator: Orchestrator, tmp_path: Path) -> None:
    machine = _made(tmp_path / "machine")
    (machine / "end").write_text("1900000000\n")
    (machine / "software-refused").write_text(f"{'a' * 64} it did not answer\n")
    told = another(tmp_path / "second", orchestrator, **{"machine-folder": machine}).start()
    with told.client(operator_of(told)) as client:
        view = client.machine()
        assert (view.ends_at, view.refused, view.why) == (1_900_000_000.0, "a" * 64, "it did not answer")
        client.order_machine(MachineOrders(ends_at=2_000_000_000.0))
        for orders, code in (
            (MachineOrders(software_sha256="b" * 64), "not_found"),
            (MachineOrders(ends_at=1e300), "request_invalid"),
            (MachineOrders(software_sha256="b" * 64 + "\n"), "request_invalid"),
        ):
            with pytest.raises(GrafosError) as raised:
                client.order_machine(orders)
            assert raised.value.code == code
        client.order_machine(MachineOrders())
        sha256 = client.put_bundle(b"software")
        assert client.order_machine(MachineOrders(software_sha256=sha256)).refused == ""
        records = client.audit(AuditQuery(kind="MachineOrdered")).records
        assert [record.details for record in records] == [{"ends_at": 2_000_000_000}, {"software_sha256": sha256}]
    assert (machine / "end-wanted").read_text() == "2000000000\n"
    assert (machine / "software-wanted").read_text() == f"{sha256}\n"
    told.discard()


def test_nothing_is_unpacked_outside_of_its_folder(tmp_path: Path) -> None:
    about, evil = tmp_path / "about.json", tmp_path / "evil.tar"
    about.write_text('{"fabric":"fab-1","name":"orchestrator","version":"1","made_at":1.0,"store":"sqlite","format":1}')
    for name in ("../out", "trust/../../out", "/etc/out", "other/file", "state/blobs/x"):
        with tarfile.open(evil, "w") as archive:
            archive.add(about, "about.json")
            archive.add(about, name)
        with pytest.raises(GrafosError) as raised:
            unpack_backup(evil, tmp_path / "in" / "here")
        assert raised.value.code == "backup_invalid"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "in" / "out").exists()


def _newer(archive: bytes, folder: Path) -> bytes:
    """The same, made by a version that is not out yet."""
    file, newer = folder / "ours.tar", folder / "newer.tar"
    file.write_bytes(archive)
    with tarfile.open(file) as old, tarfile.open(newer, "w") as new:
        for member in old:
            data = old.extractfile(member).read()  # type: ignore[union-attr]  # all are plain files
            if member.name == "about.json":
                about = msgspec.json.decode(data, type=About)
                data = msgspec.json.encode(msgspec.structs.replace(about, version="999.0"))
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return newer.read_bytes()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
