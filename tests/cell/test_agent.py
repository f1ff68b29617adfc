"""The cell's daemon as a real process, with the test in the scheduler's place: what it keeps, refuses and survives."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_scheduler import ScriptedLink, ScriptedScheduler
from standalone import CELL_ID, Process
from tasklets import tasklet

from grafos_core.errors import CODES
from grafos_core.ids import sha256_of
from grafos_core.receipts import RunReceipt, open_signed_by_cell
from grafos_scheduler import frames

QUICK = tasklet()
ENDLESS = tasklet("(loop $again (br $again)) i32.const 0")
CPU, OTHER_CPU, MEM = "03" + "0" * 30, "03" + "1" * 30, "01" + "0" * 30


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[ScriptedScheduler]:
    made = ScriptedScheduler(tmp_path)
    yield made
    made.close()


@pytest.fixture
def link(scheduler: ScriptedScheduler) -> ScriptedLink:
    """The first link of a cell that was just started."""
    scheduler.start_cell()
    made = scheduler.next_link()
    made.welcome()
    return made


def kill_and_restart(scheduler: ScriptedScheduler) -> ScriptedLink:
    """The next link, not yet welcomed, after a SIGKILL of the daemon."""
    assert scheduler.daemon.end(signal.SIGKILL) == -signal.SIGKILL
    scheduler.daemon.discard()
    scheduler.start_cell()
    return scheduler.next_link()


def begin_run(link: ScriptedLink, run_id: str, module: bytes, lease_id: str = CPU) -> None:
    """A run that has its module and goes."""
    link.start(run_id, module, link.grant(lease_id))
    link.serve_blob(module)


# --- coming up ----------------------------------------------------------------------------------------------------


def test_it_registers_what_the_machine_has_and_then_dials(scheduler: ScriptedScheduler) -> None:
    daemon = scheduler.start_cell()
    hello = scheduler.next_link().welcome()
    told = daemon.wait_ready()
    assert (told["cell_id"], told["start"]) == (CELL_ID, 1)
    assert (hello.cell_id, hello.boot_epoch, hello.unacknowledged, hello.fenced) == (CELL_ID, 1, (), ())
    assert hello.api_token == (scheduler.folder / "trust" / "cell-token").read_text()
    [request] = scheduler.registrations
    said = json.loads(request.partition(b"\r\n\r\n")[2])
    assert said["total"]["cpu_cores"] == len(os.sched_getaffinity(0))
    assert (said["total"]["mem_bytes"], said["total"]["gpu_count"]) == (2**20, 0)


def test_it_waits_for_a_scheduler_that_starts_after_it(scheduler: ScriptedScheduler) -> None:
    token = scheduler.folder / "trust" / "cell-token"
    text = token.read_text()
    token.unlink()
    scheduler.start_cell()
    time.sleep(0.5)
    assert scheduler.dials == []
    token.write_text(text)
    scheduler.next_link().welcome()


def test_each_start_has_a_newer_boot_epoch(scheduler: ScriptedScheduler, link: ScriptedLink) -> None:
    assert kill_and_restart(scheduler).welcome().boot_epoch == 2
    assert kill_and_restart(scheduler).welcome().boot_epoch == 3


def test_it_beats_as_often_as_the_scheduler_asked_for(link: ScriptedLink) -> None:
    beats = [link.hear_one(frames.Heartbeat) for _ in range(4)]
    assert not any(beats[0].leased.amounts())


# --- losing the link ----------------------------------------------------------------------------------------------


def test_it_dials_again_with_growing_pauses_and_never_in_a_busy_loop(scheduler: ScriptedScheduler) -> None:
    scheduler.start_cell()
    for _ in range(5):
        scheduler.next_link().close()
    time.sleep(1.0)
    pauses = [later - earlier for earlier, later in zip(scheduler.dials, scheduler.dials[1:], strict=False)]
    assert len(scheduler.dials) < 15
    assert min(pauses) > 0.01
    assert max(pauses) - min(pauses) > 0.1


def test_after_a_goodbye_that_it_cannot_cure_it_waits_long(scheduler: ScriptedScheduler) -> None:
    scheduler.start_cell()
    link = scheduler.next_link()
    link.hear_one(frames.Hello)
    link.say(frames.Goodbye("version_unsupported", "too old"))
    time.sleep(2.0)
    assert len(scheduler.dials) == 1


def test_a_scheduler_that_has_forgotten_it_gets_a_new_registration(scheduler: ScriptedScheduler) -> None:
    scheduler.start_cell()
    link = scheduler.next_link()
    link.hear_one(frames.Hello)
    link.say(frames.Goodbye("cell_unknown", "who are you?"))
    scheduler.next_link().welcome()
    assert len(scheduler.registrations) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\xc1",
        b"\0\0\0\x0a\x81\xa4type\xa3new",
        b"\0\0\0\x18\x82\xa4type\xa7goodbye\xa4what\xa4a\xff\xffb",
    ],
    ids=["long", "nonsense", "unknown", "no UTF-8"],
)
def test_bytes_that_are_no_frame_end_the_link_and_nothing_else(
    scheduler: ScriptedScheduler, link: ScriptedLink, data: bytes
) -> None:
    link.say_bytes(data)
    assert scheduler.next_link().welcome().boot_epoch == 1


# --- leases and tokens --------------------------------------------------------------------------------------------


def test_a_lease_is_granted_with_a_token_and_the_heartbeat_counts_it(link: ScriptedLink) -> None:
    token = link.grant(CPU)
    again = link.grant(CPU)
    assert token.startswith("gct1.")
    assert again.startswith("gct1.")
    link.hear_one(frames.Heartbeat)
    assert link.hear_one(frames.Heartbeat).leased.cpu_cores == 1


def test_no_more_is_leased_out_than_there_is(link: ScriptedLink) -> None:
    link.grant(MEM, kind="mem", amount=2**20)
    link.say(frames.GrantLease("01" + "f" * 30, 1, "acme", "mem", 1, time.time() + 60))
    assert link.hear_one(frames.LeaseRefused).code == "placement_failed"


def test_a_token_from_before_a_kill_opens_nothing_afterwards(scheduler: ScriptedScheduler, link: ScriptedLink) -> None:
    old = link.grant(CPU)
    again = kill_and_restart(scheduler)
    again.welcome()
    again.start("run-old", QUICK, old)
    assert again.hear_one(frames.RunEnded).code == "capability_refused"
    again.say(frames.GrantLease(CPU, 1, "acme", "cpu", 1, time.time() + 60))
    assert again.hear_one(frames.LeaseRefused).code == "lease_expired"
    again.start("run-new", QUICK, again.grant(CPU, generation=2))
    again.serve_blob(QUICK)
    assert again.hear_one(frames.RunEnded).run_id == "run-new"


def test_a_lease_torn_down_in_the_middle_of_a_run_ends_the_run_first(link: ScriptedLink) -> None:
    begin_run(link, "run-1", ENDLESS)
    link.say(frames.TearDownLease(CPU, 1))
    ended = link.hear_one(frames.RunEnded)
    assert (ended.run_id, ended.code) == ("run-1", "lease_expired")
    assert link.hear_one(frames.LeaseTornDown) == frames.LeaseTornDown(CPU, 1)


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_receipt_that_the_cells_certificate_signed(
    scheduler: ScriptedScheduler, link: ScriptedLink
) -> None:
    begin_run(link, "run-1", QUICK)
    ended = link.hear_one(frames.RunEnded)
    receipt = open_signed_by_cell(ended.receipt, RunReceipt, scheduler.credentials.ca_pem, at_field="ended_at")
    assert (receipt.run_id, receipt.code, receipt.cell_id) == ("run-1", "finished", CELL_ID)
    assert receipt.module_sha256 == sha256_of(QUICK)


def test_the_end_of_a_run_is_kept_over_a_kill_until_it_is_noted(
    scheduler: ScriptedScheduler, link: ScriptedLink
) -> None:
    begin_run(link, "run-1", QUICK)
    first = link.hear_one(frames.RunEnded)
    again = kill_and_restart(scheduler)
    assert again.welcome().unacknowledged == ("run-1",)
    assert again.hear_one(frames.RunEnded) == first
    again.say(frames.RunEndedNoted("run-1"))
    again.hear_one(frames.Heartbeat)
    again.hear_one(frames.Heartbeat)
    assert kill_and_restart(scheduler).welcome().unacknowledged == ()


def test_a_run_under_way_in_a_kill_is_reported_as_lost_and_shows_no_time(
    scheduler: ScriptedScheduler, link: ScriptedLink
) -> None:
    begin_run(link, "run-1", ENDLESS)
    link.hear_one(frames.Heartbeat)
    again = kill_and_restart(scheduler)
    assert again.welcome().unacknowledged == ("run-1",)
    ended = again.hear_one(frames.RunEnded)
    receipt = open_signed_by_cell(ended.receipt, RunReceipt, scheduler.credentials.ca_pem, at_field="ended_at")
    assert ended.code == "cell_lost"
    assert receipt.ended_at == receipt.started_at


def test_a_run_that_the_cell_has_seen_is_not_started_again(link: ScriptedLink) -> None:
    token = link.grant(CPU)
    link.start("run-1", QUICK, token)
    link.serve_blob(QUICK)
    first = link.hear_one(frames.RunEnded)
    link.start("run-1", QUICK, token)
    assert link.hear_one(frames.RunEnded) == first


def test_runs_go_side_by_side_one_on_each_core(link: ScriptedLink) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        begin_run(link, "run-1", QUICK)
        return
    begin_run(link, "run-1", ENDLESS)
    link.start("run-2", QUICK, link.grant(OTHER_CPU))
    link.serve_blob(QUICK)
    assert link.hear_one(frames.RunEnded).run_id == "run-2"


def test_bytes_that_are_not_the_promised_ones_are_not_run(link: ScriptedLink) -> None:
    link.start("run-1", QUICK, link.grant(CPU))
    wanted = link.hear_one(frames.BlobWanted).sha256
    link.say(frames.BlobData(wanted, found=True, data=QUICK + b"\0"))
    assert link.hear_one(frames.RunEnded).code == "blob_mismatch"


def test_a_blob_that_is_not_there_ends_the_run(link: ScriptedLink) -> None:
    link.start("run-1", QUICK, link.grant(CPU), data=b"input")
    link.serve_blob(QUICK)
    wanted = link.hear_one(frames.BlobWanted).sha256
    link.say(frames.BlobData(wanted, found=False))
    assert link.hear_one(frames.RunEnded).code == "blob_missing"


def test_a_blob_that_was_under_way_when_the_link_broke_is_asked_for_again(
    scheduler: ScriptedScheduler, link: ScriptedLink
) -> None:
    link.start("run-1", QUICK, link.grant(CPU))
    link.hear_one(frames.BlobWanted)
    link.close()
    again = scheduler.next_link()
    again.welcome()
    again.serve_blob(QUICK)
    assert again.hear_one(frames.RunEnded).code == "finished"


def test_a_module_is_fetched_once_and_a_damaged_copy_is_fetched_again(
    scheduler: ScriptedScheduler, link: ScriptedLink
) -> None:
    token = link.grant(CPU)
    link.start("run-1", QUICK, token)
    link.serve_blob(QUICK)
    assert link.hear_one(frames.RunEnded).code == "finished"
    link.start("run-2", QUICK, token)
    assert link.hear_one(frames.RunEnded).code == "finished"
    (scheduler.folder / "cell-state" / "blobs" / sha256_of(QUICK)).write_bytes(b"rot")
    link.start("run-3", QUICK, token)
    link.serve_blob(QUICK)
    assert link.hear_one(frames.RunEnded).code == "finished"


# --- leased blocks ------------------------------------------------------------------------------------------------

BLOCK = "02" + "0" * 30
COUNTING = tasklet(
    """(drop (call $fbbu_read_block (i32.const 0) (i64.const 1) (i32.const 0)))
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (drop (call $fbbu_write_block (i32.const 0) (i64.const 1) (i32.const 0)))
    (drop (call $output_write (i32.const 0) (i32.const 1))) (i32.const 0)"""
)
"""Adds one to the first number of a block, and gives it."""


def count(link: ScriptedLink, run_id: str, *tokens: str, serve: bool = False) -> bytes:
    link.start(run_id, COUNTING, *tokens)
    if serve:
        link.serve_blob(COUNTING)
    ended = link.hear_one(frames.RunEnded)
    assert ended.code == "finished", ended
    return ended.output


def test_blocks_are_shared_by_the_runs_of_their_lease_and_survive_a_kill_of_the_daemon(
    scheduler: ScriptedScheduler, link: ScriptedLink
) -> None:
    tokens = link.grant(CPU), link.grant(BLOCK, kind="block", amount=1024)
    assert count(link, "run-1", *tokens, serve=True) == b"\x01"
    assert count(link, "run-2", *tokens) == b"\x02"
    again = kill_and_restart(scheduler)
    again.welcome()
    for _ in range(2):  # ends that were not noted yet
        again.hear_one(frames.RunEnded)
    anew = again.grant(CPU, generation=2), again.grant(BLOCK, kind="block", amount=1024, generation=2)
    assert count(again, "run-3", *anew) == b"\x03"
    again.say(frames.TearDownLease(BLOCK, 2))
    assert again.hear_one(frames.LeaseTornDown).fenced is False
    assert list((scheduler.folder / "cell-state" / "blocks").iterdir()) == []


def test_blocks_that_cannot_be_removed_are_fenced_until_an_operator_clears_them(
    scheduler: ScriptedScheduler, link: ScriptedLink
) -> None:
    count(link, "run-1", link.grant(CPU), link.grant(BLOCK, kind="block", amount=512), serve=True)
    file = scheduler.folder / "cell-state" / "blocks" / BLOCK
    file.unlink()
    file.mkdir()
    link.say(frames.TearDownLease(BLOCK, 1))
    assert link.hear_one(frames.LeaseTornDown).fenced is True
    again = kill_and_restart(scheduler)
    assert again.welcome().fenced == (BLOCK,)
    again.say(frames.ClearFence(BLOCK, 1))
    assert again.hear_one(frames.LeaseTornDown).fenced is True, "it cannot be removed yet"
    file.rmdir()
    again.say(frames.ClearFence(BLOCK, 1))
    assert again.hear_one(frames.LeaseTornDown).fenced is False


def test_a_revoked_lease_lets_its_run_end_within_the_grace_and_no_longer(link: ScriptedLink) -> None:
    begin_run(link, "run-1", ENDLESS)
    link.say(frames.RevokeLease(CPU, 1, 1.0))
    for label in ("revoke_warning", "grace_running", "forced_teardown"):
        assert link.hear_one(frames.LeaseRevoked).state == label
    assert link.hear_one(frames.RunEnded).code == "lease_revoked"
    assert link.hear_one(frames.LeaseRevoked).state == "torndown"
    assert link.hear_one(frames.LeaseTornDown) == frames.LeaseTornDown(CPU, 1)


def test_a_run_goes_on_when_its_leases_are_renewed(link: ScriptedLink) -> None:
    """The memory's lease would have ended long before; the worker asks, and hears of the renewal."""
    wait = """(loop $again (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br_if $again (i64.lt_u (local.get $n) (i64.const 2000000000))))"""
    size = "(i32.sub (i32.wrap_i64 (call $fbmu_size (i32.const 0))) (i32.const 512))"
    module = tasklet(wait + size, run_locals="(local $n i64)")
    soon = time.time() + 2.0
    link.say(frames.GrantLease(CPU, 1, "acme", "cpu", 1, soon), frames.GrantLease(MEM, 1, "acme", "mem", 512, soon))
    tokens = [link.hear_one(frames.LeaseGranted).token for _ in range(2)]
    link.start("run-1", module, *tokens)
    link.serve_blob(module)
    link.grant(CPU, generation=2)
    link.grant(MEM, kind="mem", amount=512, generation=2)
    ended = link.hear_one(frames.RunEnded)
    assert (ended.code, ended.what) == ("finished", "")


def test_a_run_uses_its_blocks_without_a_gap_while_their_lease_is_renewed(link: ScriptedLink) -> None:
    """From a renewal's decision to the moment at which it is on the disk, too, the run's token opens the lease."""
    write = "(call $fbbu_write_block (i32.const 0) (i64.const 0) (i32.const 0))"
    module = tasklet(
        f"""(loop $again (local.set $status {write}) (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $again (i32.and (i32.eqz (local.get $status)) (i32.lt_u (local.get $n) (i32.const 300)))))
        (local.get $status)""",
        run_locals="(local $n i32) (local $status i32)",
    )
    link.start("run-1", module, link.grant(CPU), link.grant(BLOCK, kind="block", amount=512))
    link.serve_blob(module)
    granted, ended = frames.LeaseGranted(BLOCK, 1, ""), None
    while ended is None:
        if isinstance(granted, frames.LeaseGranted):
            frame = frames.GrantLease(BLOCK, granted.generation + 1, "acme", "block", 512, time.time() + 120)
            link.say(frame)
        granted = link.hear()
        ended = granted if isinstance(granted, frames.RunEnded) else None
    assert (ended.code, ended.what) == ("finished", "")


# --- its end ------------------------------------------------------------------------------------------------------


def test_sigterm_ends_it_at_once_also_in_the_middle_of_a_run(scheduler: ScriptedScheduler, link: ScriptedLink) -> None:
    begin_run(link, "run-1", ENDLESS)
    assert scheduler.daemon.end(signal.SIGTERM) == 0


def test_at_its_end_it_fences_itself_reports_and_leaves(scheduler: ScriptedScheduler) -> None:
    gone = scheduler.folder / "gone"
    scheduler.start_cell(expires_at=time.time() + 3, on_expiry=f"touch {gone}")
    link = scheduler.next_link()
    link.welcome()
    begin_run(link, "run-1", ENDLESS)
    assert not gone.exists()
    assert link.hear_one(frames.RunEnded).code == "interrupted"
    assert scheduler.daemon.popen.wait(60) == 0
    assert gone.exists()


def test_an_end_that_is_moved_is_kept_at_its_new_time(scheduler: ScriptedScheduler) -> None:
    gone, end = scheduler.folder / "gone", scheduler.folder / "end"
    moved_to = int(time.time()) + 5
    end.write_text(f"{moved_to}\n")
    daemon = scheduler.start_cell(expires_at=time.time() + 2, on_expiry=f"touch {gone}", end_file=end)
    assert daemon.popen.wait(60) == 0
    assert time.time() >= moved_to
    assert gone.exists()
    assert "was moved" in daemon.log.read_text()


def test_sigterm_ends_it_while_the_command_that_ends_the_machine_keeps_failing(scheduler: ScriptedScheduler) -> None:
    daemon = scheduler.start_cell(expires_at=time.time() - 5, on_expiry="false")
    while "running false" not in daemon.log.read_text():
        assert daemon.popen.poll() is None
        time.sleep(0.05)
    assert daemon.end(signal.SIGTERM) == 0


def test_its_end_comes_without_any_scheduler_too(scheduler: ScriptedScheduler) -> None:
    gone = scheduler.folder / "gone"
    daemon = scheduler.start_cell(
        scheduler="https://127.0.0.1:9", expires_at=time.time() + 1, on_expiry=f"touch {gone}"
    )
    assert daemon.popen.wait(60) == 0
    assert gone.exists()


def test_a_start_after_its_end_leaves_at_once(scheduler: ScriptedScheduler) -> None:
    gone = scheduler.folder / "gone"
    daemon = scheduler.start_cell(expires_at=time.time() - 5, on_expiry=f"touch {gone}")
    assert daemon.popen.wait(60) == 0
    assert gone.exists()
    assert scheduler.dials == []


# --- bad ground ---------------------------------------------------------------------------------------------------


def test_damaged_state_is_one_clear_error(scheduler: ScriptedScheduler, link: ScriptedLink) -> None:
    scheduler.daemon.end()
    scheduler.daemon.discard()
    (scheduler.folder / "cell-state" / "cell.db").write_bytes(b"rubbish " * 1000)
    daemon = scheduler.start_cell()
    assert daemon.popen.wait(60) == CODES["store_invalid"].exit_code
    text = daemon.log.read_text()
    assert "error[store_invalid]" in text
    assert "Traceback" not in text


def test_an_address_that_is_none_is_one_clear_error(scheduler: ScriptedScheduler) -> None:
    daemon = scheduler.start_cell(scheduler="https://127.0.0.1:99999")
    assert daemon.popen.wait(60) == CODES["config_invalid"].exit_code
    assert "Traceback" not in daemon.log.read_text()


def test_a_scheduler_of_another_ca_learns_nothing_but_a_failed_handshake(
    scheduler: ScriptedScheduler, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = ScriptedScheduler(tmp_path / "other")
    daemon: Process = scheduler.start_cell(scheduler=other.url)
    try:
        while "certificate_refused" not in daemon.log.read_text():
            assert daemon.popen.poll() is None
            time.sleep(0.05)
        assert (other.registrations, other.dials) == ([], [])
    finally:
        other.close()


def test_what_it_keeps_is_readable_by_nobody_else(scheduler: ScriptedScheduler, link: ScriptedLink) -> None:
    link.grant(CPU)
    state = scheduler.folder / "cell-state"
    assert state.stat().st_mode & 0o077 == 0
    for file in ("cell.db", "capability-key"):
        assert (state / file).stat().st_mode & 0o077 == 0
