"""The scheduler's end of the cell link, from the wire: who may speak, in what order, and within which bounds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raw_link import RawLink
from standalone import CELL_ID, HEARTBEAT_EVERY_S, Identity, Standalone, Town
from tasklets import tasklet

from grafos_core import receipts, trust
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.resources import Resources
from grafos_scheduler import frames, framing, messages
from grafos_scheduler.link import HELLO_BYTES_MAX, UNREAD_BYTES_MAX
from grafos_scheduler.protocol import CONNECTIONS_MAX, Listener

MODULE = tasklet()


@pytest.fixture
def links() -> Iterator[list[RawLink]]:
    opened: list[RawLink] = []
    yield opened
    for link in opened:
        link.close()


@pytest.fixture
def dial(town: Any, links: list[RawLink]) -> Any:
    def open_link(who: Identity | None = None) -> RawLink:
        links.append(RawLink(town.cell, who or town.agent))
        return links[-1]

    return open_link


@pytest.fixture(autouse=True, scope="module")
def registered(town: Any) -> None:
    register(town.cell, town.agent)


def register(cell: Standalone, who: Identity, **changes: Any) -> messages.CellRegistered:
    given = {
        "cell_id": CELL_ID,
        "provider": "local",
        "region": "",
        "agent_version": "test",
        "total": Resources(2, 1024),
    }
    with cell.client(who) as client:
        return client.register_cell(messages.CellRegistration(**{**given, **changes}))


def test_a_registered_cell_is_welcomed_with_the_time_between_heartbeats(dial: Any) -> None:
    welcome = dial().hello()
    assert welcome == frames.Welcome(messages.PROTOCOL_MAX, HEARTBEAT_EVERY_S)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"api_token": ""}, "token_refused"),
        ({"api_token": "gat1.x.y"}, "token_refused"),
        ({"cell_id": "cell-2"}, "certificate_refused"),
        ({"protocol_min": 7, "protocol_max": 9}, "version_unsupported"),
    ],
    ids=str,
)
def test_a_hello_that_does_not_hold_is_answered_by_goodbye(dial: Any, change: dict[str, Any], code: str) -> None:
    link = dial()
    answer = link.hello(**change)
    assert isinstance(answer, frames.Goodbye)
    assert answer.code == code
    assert link.hear() is None


def test_the_token_of_another_identity_does_not_open_a_link(town: Any, dial: Any) -> None:
    assert dial().hello(api_token=town.acme.token).code == "token_refused"


def test_a_tenant_does_not_get_a_link(town: Any, dial: Any) -> None:
    assert dial(town.acme).hello(cell_id="acme").code == "rights_missing"


def test_a_cell_that_is_not_registered_is_told_so(unclaimed: Standalone, links: list[RawLink]) -> None:
    links.append(RawLink(unclaimed, unclaimed.cell()))
    assert links[-1].hello().code == "cell_unknown"


def test_a_link_begins_with_hello_and_has_only_one(dial: Any) -> None:
    eager = dial()
    eager.say(frames.Heartbeat(Resources()))
    assert eager.hear_goodbye() == "request_invalid"
    repeating = dial()
    repeating.hello()
    repeating.say(frames.Hello(CELL_ID, 1, "test", repeating.token))
    assert repeating.hear_goodbye() == "request_invalid"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff\xff\xff", "limit_exceeded"),
        (b"\0\0\0\1\xc1", "request_invalid"),
        (b"\0\0\0\1\x80", "request_invalid"),
        (b"\0\0\0\0", "request_invalid"),
        (b"\0\0\0\x0a\x81\xa4type\xa3new", "request_invalid"),
        ((len(b"\x91" * 60000)).to_bytes(4, "big") + b"\x91" * 60000, "request_invalid"),
    ],
    ids=["too long", "no msgpack", "no type", "empty", "unknown type", "deep"],
)
def test_bytes_that_are_no_frame_end_the_link(dial: Any, data: bytes, code: str) -> None:
    link = dial()
    link.hello()
    link.say_bytes(data)
    assert link.hear_goodbye() == code


def test_who_has_not_said_hello_is_not_listened_to_for_long(town: Any, dial: Any) -> None:
    """A tenant's certificate opens the connection too, and a frame may have 16 MiB."""
    stranger = dial(town.acme)
    with contextlib.suppress(OSError):
        stranger.say_bytes(framing.FRAME_BYTES_MAX.to_bytes(4, "big") + bytes(2 * HELLO_BYTES_MAX))
    assert stranger.hear_goodbye() == "limit_exceeded"


def test_links_count_among_the_open_connections() -> None:
    """They are bounded together, whatever each has become."""

    async def story() -> list[bool]:
        open_links: list[int] = []
        keeper = SimpleNamespace(links=open_links, accept=None)
        listener = Listener(lambda *_: None, keeper)
        seen = [listener.is_full()]
        open_links.extend(range(CONNECTIONS_MAX))
        return [*seen, listener.is_full()]

    assert asyncio.run(story()) == [False, True]


def test_fields_of_a_newer_cell_are_passed_over(dial: Any) -> None:
    link = dial()
    fields = msgspec.to_builtins(link.next_hello())
    body = msgspec.msgpack.encode({**fields, "protocol_max": 99, "shoe_size": 42})
    link.say_bytes(len(body).to_bytes(4, "big") + body)
    assert isinstance(link.hear(), frames.Welcome)


def test_frames_that_come_byte_by_byte_are_frames(dial: Any) -> None:
    link = dial()
    for byte in framing.encode_frame(link.next_hello()):
        link.say_bytes(bytes([byte]))
    assert isinstance(link.hear(), frames.Welcome)


def test_a_new_link_of_a_cell_takes_the_place_of_the_old_one(dial: Any) -> None:
    old, new = dial(), dial()
    old.hello()
    assert isinstance(new.hello(), frames.Welcome)
    assert old.hear_goodbye() == "cell_lost"


def test_a_cell_that_falls_silent_loses_its_link(dial: Any) -> None:
    link = dial()
    link.hello()
    assert link.hear_goodbye() == "cell_lost"


def test_a_cell_that_beats_keeps_its_link(town: Any, dial: Any) -> None:
    link = dial()
    link.hello()
    with town.cell.client(town.operator) as client:
        for _ in range(12):
            link.say(frames.Heartbeat(Resources()))
            time.sleep(HEARTBEAT_EVERY_S / 3)
        [view] = client.cells()
    assert view.readiness["outbound_registered"].met
    assert view.ready


def test_a_cell_restored_from_an_older_disk_is_not_let_in(dial: Any) -> None:
    """Its boot epoch fell back, so its generations may have too."""
    assert isinstance(dial().hello(), frames.Welcome)
    assert dial().hello(boot_epoch=7).code == "generation_stale"


def test_a_registration_for_another_cell_or_provider_is_refused(town: Any) -> None:
    for change in ({"cell_id": "cell-2"}, {"provider": "aws"}):
        with pytest.raises(Exception, match="certificate is for cell") as caught:
            register(town.cell, town.agent, **change)
        assert caught.value.code == "certificate_refused"


def test_a_registration_of_a_foreign_protocol_is_refused(town: Any) -> None:
    with pytest.raises(Exception, match="protocol") as caught:
        register(town.cell, town.agent, protocol_min=messages.PROTOCOL_MAX + 1, protocol_max=messages.PROTOCOL_MAX + 1)
    assert caught.value.code == "version_unsupported"


# --- a run, with the test as the cell -----------------------------------------------------------------------------


class PlayedCell:
    """Grants what it is asked for and starts what it is told to start."""

    def __init__(self, town: Any, link: RawLink) -> None:
        self.town = town
        self.link = link
        self.key = trust.key_from_pem(town.agent.key.read_bytes())
        self.certificate_pem = town.agent.certificate.read_text()

    def request_run(self, run_key: str, input_sha256: str = "") -> messages.RunView:
        with self.town.cell.client(self.town.acme) as client:
            client.put_blob(MODULE)
            asked = messages.RunRequest(run_key, "local", "p", "t", sha256_of(MODULE), input_sha256, deadline_s=5.0)
            return client.start_run(asked)

    def until_start(self) -> frames.StartRun:
        while True:
            frame = self.link.hear()
            if isinstance(frame, frames.StartRun):
                return frame
            if isinstance(frame, frames.GrantLease):
                self.link.say(frames.LeaseGranted(frame.lease_id, frame.generation, f"token-{frame.generation}"))

    def end(self, start: frames.StartRun, **changes: Any) -> frames.RunEnded:
        now = time.time()
        fields = {
            "fabric": self.town.cell.fabric.id,
            "run_id": start.run_id,
            "tenant": start.tenant,
            "provider": start.provider,
            "cell_id": CELL_ID,
            "region": start.region,
            "tasklet": start.tasklet,
            "module_sha256": start.module_sha256,
            "input_sha256": start.input_sha256,
            "code": "finished",
            "response_sha256": sha256_of(b'"ok"'),
            "output_sha256": sha256_of(b""),
            "fuel_used": 1,
            "started_at": now,
            "ended_at": now,
            "boot_epoch": 4,
        }
        receipt = receipts.RunReceipt(**{**fields, **changes})
        signed = receipts.sign_record(receipt, self.key, self.certificate_pem)
        return frames.RunEnded(start.run_id, "finished", "", 1, '"ok"', b"", "", signed)


@pytest.fixture
def played(town: Any, dial: Any) -> PlayedCell:
    link = dial()
    assert isinstance(link.hello(), frames.Welcome)
    link.say(frames.Heartbeat(Resources()))
    return PlayedCell(town, link)


def test_a_run_goes_over_the_link_and_its_end_is_noted_once_it_is_durable(town: Any, played: PlayedCell) -> None:
    view = played.request_run("played-run-number-1")
    start = played.until_start()
    assert (start.run_id, start.tenant, start.module_sha256) == (view.run_id, "acme", sha256_of(MODULE))
    played.link.say(frames.RunStarted(start.run_id), frames.BlobWanted(start.module_sha256))
    blob = played.link.hear_one(frames.BlobData)
    assert blob == frames.BlobData(start.module_sha256, found=True, data=MODULE)
    played.link.say(played.end(start))
    assert played.link.hear_one(frames.RunEndedNoted) == frames.RunEndedNoted(start.run_id)
    with town.cell.client(town.acme) as client:
        assert client.run(view.run_id).state == "finished"
        assert client.artifacts(view.run_id).response_json == '"ok"'
    # A second telling changes nothing and is noted again.
    played.link.say(played.end(start))
    assert played.link.hear_one(frames.RunEndedNoted) == frames.RunEndedNoted(start.run_id)


def test_a_run_that_is_asked_for_again_needs_its_blobs_no_more(town: Any, played: PlayedCell) -> None:
    """The answer may have been lost, and blobs go when room is short."""
    view = played.request_run("played-run-number-5")
    asked = messages.RunRequest("played-run-number-5", "local", "p", "t", sha256_of(MODULE), "", deadline_s=5.0)
    played.link.say(played.end(played.until_start()))
    played.link.hear_one(frames.RunEndedNoted)
    (town.cell.state / "blobs" / "acme" / asked.module_sha256).unlink()
    with town.cell.client(town.acme) as client:
        for again in (lambda: client.get_blob(asked.module_sha256), lambda: client.start_run(fresh(asked))):
            with pytest.raises(Exception, match="was uploaded") as caught:
                again()
            assert caught.value.code == "blob_missing"
        assert client.start_run(asked).run_id == view.run_id


def fresh(asked: messages.RunRequest) -> messages.RunRequest:
    return msgspec.structs.replace(asked, run_key=asked.run_key + "-fresh")


def test_each_run_of_a_batch_has_its_own_answer_and_starts_as_any_other(town: Any, played: PlayedCell) -> None:
    first = played.request_run("batched-run-number-1", sha256_of(MODULE))
    asked = messages.RunRequest("batched-run-number-1", "local", "p", "t", *[sha256_of(MODULE)] * 2, deadline_s=5.0)
    second = fresh(asked)
    lacking = msgspec.structs.replace(fresh(asked), input_sha256="0" * 64)
    reused = msgspec.structs.replace(asked, fuel=7)
    with town.cell.client(town.acme) as client:
        again, missing, other, new = client.start_runs([asked, lacking, reused, second])
        assert again.run is not None
        assert new.run is not None
        assert (again.run.run_id, again.error, new.error) == (first.run_id, None, None)
        assert [(one.run, one.error.code) for one in (missing, other)] == [
            (None, "blob_missing"),
            (None, "run_key_reused"),
        ]
        assert client.run(new.run.run_id).state in {"admitted", "placed"}
        started = {played.until_start().run_id, played.until_start().run_id}
        assert started == {first.run_id, new.run.run_id}


@pytest.mark.parametrize("count", [0, messages.RUNS_BATCH_MAX + 1])
def test_a_batch_of_none_or_of_too_many_is_refused_as_a_whole(town: Any, count: int) -> None:
    asked = messages.RunRequest("a-run-of-too-many-1", "local", "p", "t", sha256_of(MODULE), "")
    with town.cell.client(town.acme) as client, pytest.raises(GrafosError) as caught:
        client.start_runs([fresh(asked) for _ in range(count)])
    assert caught.value.code == "request_invalid"


def test_a_cell_gets_no_blob_that_no_run_on_it_needs(town: Any, dial: Any) -> None:
    with town.cell.client(town.globex) as client:
        secret = client.put_blob(b"what globex keeps to itself")
    link = dial()
    link.hello()
    link.say(frames.BlobWanted(secret))
    assert link.hear_one(frames.BlobData) == frames.BlobData(secret, found=False)


def test_a_cell_that_reads_slowly_gets_all_that_it_asked_for_and_keeps_its_link(town: Any, dial: Any) -> None:
    """What it wants at once may be far more than a link may leave unread."""
    large = bytes(messages.BLOB_BYTES_MAX - 1) + b"x"
    count = UNREAD_BYTES_MAX // len(large) + 3
    link = dial()
    assert isinstance(link.hello(), frames.Welcome)
    link.say(frames.Heartbeat(Resources()))
    played = PlayedCell(town, link)
    with town.cell.client(town.acme) as client:
        client.put_blob(large)
    played.request_run("played-run-number-4", input_sha256=sha256_of(large))
    start = played.until_start()
    link.say(*[frames.BlobWanted(start.input_sha256)] * count)
    for _ in range(4):
        time.sleep(HEARTBEAT_EVERY_S)
        link.say(frames.Heartbeat(Resources()))
    for _ in range(count):
        link.say(frames.Heartbeat(Resources()))
        assert link.hear_one(frames.BlobData).found
    link.say(played.end(start))
    assert link.hear_one(frames.RunEndedNoted).run_id == start.run_id


def test_a_receipt_that_the_cell_did_not_sign_ends_the_link(played: PlayedCell) -> None:
    played.request_run("played-run-number-2")
    start = played.until_start()
    forged = played.end(start)
    played.link.say(frames.RunStarted(start.run_id))
    body = forged.receipt.body.replace(b'"fuel_used":1', b'"fuel_used":0')
    played.link.say(msgspec.structs.replace(forged, receipt=msgspec.structs.replace(forged.receipt, body=body)))
    assert played.link.hear_goodbye() == "receipt_invalid"


def test_a_receipt_in_the_name_of_another_cell_ends_the_link(played: PlayedCell) -> None:
    start = frames.StartRun("run-x", "acme", "local", "here", "t", "0" * 64, "", 1, 65536, 1.0, ())
    played.link.say(played.end(start, cell_id="cell-9"))
    assert played.link.hear_goodbye() == "receipt_invalid"


def test_a_scheduler_that_is_told_to_stop_answers_who_waits_and_says_goodbye(
    unclaimed: Standalone, links: list[RawLink]
) -> None:
    operator = unclaimed.claimed()
    acme, agent = unclaimed.tenant(operator, "acme"), unclaimed.cell()
    register(unclaimed, agent)
    links.append(RawLink(unclaimed, agent))
    links[-1].hello()
    played = PlayedCell(Town(unclaimed, operator, acme, acme, agent), links[-1])
    view = played.request_run("played-run-number-3")
    with unclaimed.client(acme) as client, ThreadPoolExecutor() as threads:
        client.run(view.run_id)  # the connection is made
        waiting = threads.submit(client.run, view.run_id, wait_s=30.0)
        links[-1].hear_one(frames.GrantLease)
        time.sleep(0.5)
        assert not waiting.done()
        assert unclaimed.scheduler.end(signal.SIGTERM) == 0
        assert waiting.result(60).run_id == view.run_id
    assert links[-1].hear_goodbye() == "interrupted"
