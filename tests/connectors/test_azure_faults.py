"""Bad days at Azure, over the real wire format: refusals, operations that fail, lost answers, servers that are none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from azure_place import AzurePlace
from contract_work import Work

from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.ids import parse
from grafos_connectors.azure.kind_calls import read_resource
from grafos_connectors.contract import CloudError, Failed, Kind, State
from grafos_core.clock import VirtualClock
from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AzurePlace]:
    clock = VirtualClock()
    with EmulatedClouds(tmp_path, Settings(clouds=("azure",), boots=False), clock=clock) as clouds:
        yield AzurePlace(clouds, clock)


@pytest.fixture
def work(place: AzurePlace) -> Work:
    return Work(place)


def goes_wrong(place: AzurePlace, operation: str, effect: Effect, error: ErrorClass = ErrorClass.INTERNAL) -> None:
    place.clouds.faults.add(FaultRule(Fault(effect, error), provider="azure", operation=operation))


MAKE, DELETE = "virtualMachines.createOrUpdate", "virtualMachines.delete"


@pytest.mark.parametrize(
    ("error", "code", "is_ambiguous"),
    [
        (ErrorClass.CAPACITY, "cloud_capacity", False),
        (ErrorClass.QUOTA, "cloud_quota", False),
        (ErrorClass.THROTTLED, "cloud_throttled", False),
        (ErrorClass.DENIED, "cloud_denied", False),
        (ErrorClass.AUTH, "cloud_auth", False),
        (ErrorClass.UNAVAILABLE, "cloud_unreachable", True),
        (ErrorClass.INTERNAL, "cloud_unreachable", True),
    ],
)
def test_a_refused_create_is_sent_once_and_told_in_our_words(
    place: AzurePlace,
    work: Work,
    error: ErrorClass,
    code: str,
    is_ambiguous: bool,  # noqa: FBT001  a table's column
) -> None:
    work.lay_ground(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.REFUSE, error)
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.ambiguous) == (code, is_ambiguous)
    assert refusal.request_id
    assert [call.action for call in place.clouds.journal()].count(MAKE) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ErrorClass.CAPACITY, "cloud_capacity"),
        (ErrorClass.QUOTA, "cloud_quota"),
        (ErrorClass.INTERNAL, "cloud_unreachable"),
    ],
)
def test_a_machine_that_fails_after_it_was_accepted_stays_behind_and_is_named(
    place: AzurePlace, work: Work, error: ErrorClass, code: str
) -> None:
    work.lay_ground(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.OPERATION_ERROR, error)
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    outcome = work.outcome(operation)
    assert isinstance(outcome, Failed)
    failure = outcome.cloud_error()
    assert (failure.code, failure.ambiguous) == (code, False)
    assert outcome.found is not None
    assert (outcome.found.ref.id, outcome.found.state) == (operation.ref.id, State.FAILED)
    assert work.finish(work.connector.begin_delete(outcome.found.ref)) is None


def test_a_process_that_lost_the_operation_learns_from_the_machine_why_it_failed(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    desired = work.desired(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
    work.outcome(work.connector.begin_create(desired, "token"))
    again = work.outcome(work.connector.begin_create(desired, "token"))
    assert isinstance(again, Failed)
    assert again.cloud_error().code == "cloud_capacity"
    assert again.found is not None


def test_an_operation_that_says_done_and_is_not_has_failed(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.FIREWALL)
    goes_wrong(place, "networkSecurityGroups.createOrUpdate", Effect.SAYS_DONE_AND_IS_NOT)
    outcome = work.outcome(work.connector.begin_create(work.desired(Kind.FIREWALL), "token"))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_not_found"


def test_a_delete_that_says_done_and_is_not_is_to_be_repeated(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    goes_wrong(place, DELETE, Effect.SAYS_DONE_AND_IS_NOT)
    outcome = work.outcome(work.connector.begin_delete(made.ref))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_not_found"
    assert outcome.found is not None
    assert work.finish(work.connector.begin_delete(made.ref)) is None


def test_a_delete_that_fails_later_says_why(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    goes_wrong(place, DELETE, Effect.OPERATION_ERROR, ErrorClass.DENIED)
    outcome = work.outcome(work.connector.begin_delete(made.ref))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_denied"


def test_a_lost_request_is_as_ambiguous_as_a_lost_answer(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.LOST_REQUEST)
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.ambiguous) == ("cloud_unreachable", True)
    assert work.connector.find(work.desired(Kind.MACHINE)) is None


def test_what_cannot_be_looked_at_after_its_name_was_met_is_in_doubt(place: AzurePlace, work: Work) -> None:
    """A refusal without doubt would let its journal forget the machine."""
    work.lay_ground(Kind.MACHINE)
    desired = work.desired(Kind.MACHINE)
    work.finish(work.connector.begin_create(desired, "token"))
    goes_wrong(place, "virtualMachines.get", Effect.REFUSE, ErrorClass.DENIED)
    refusal = work.refused(desired, "token-2")
    assert (refusal.code, refusal.ambiguous) == ("cloud_denied", True)
    assert CloudError.from_wire(refusal.to_wire()).ambiguous


def test_a_read_that_does_not_get_through_is_repeated(place: AzurePlace, work: Work) -> None:
    made = work.make(Kind.GROUP)
    for effect in (Effect.LOST_REQUEST, Effect.LOST_ANSWER):
        goes_wrong(place, "resourceGroups.get", effect)
    assert work.connector.observe(made.ref).state is State.READY


def test_a_lock_keeps_what_it_locks_and_is_named(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.FIREWALL)
    made = work.make(Kind.FIREWALL)
    place.clouds.azure.locks[made.ref.id] = "CanNotDelete"
    with pytest.raises(CloudError) as raised:
        work.connector.begin_delete(made.ref)
    assert (raised.value.code, raised.value.cloud_code) == ("cloud_denied", "ScopeLocked")
    assert "lock" in raised.value.next


# Servers that are no Azure --------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    status, body, headers_told = 200, b"", ()
    asked: ClassVar[list[str]] = []

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}".strip())
        self.send_response(self.status)
        for name, value in self.headers_told:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_PUT = do_DELETE = _answer  # noqa: N815  the base class looks for these names

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def server(status: int, body: bytes, **headers: str) -> Iterator[tuple[AzureCalls, list[str]]]:
    asked: list[str] = []
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    handler = type("Handler", (Answers,), {
        "status": status, "body": body, "headers_told": tuple(told.items()), "asked": asked,
    })  # fmt: skip
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{serving.server_address[1]}"
    try:
        environment = {"GRAFOS_AZURE_ENDPOINT": endpoint, "AZURE_SUBSCRIPTION_ID": EMULATED_SUBSCRIPTION}
        yield AzureCalls(environment=environment), asked
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_read_is_tried_three_times_and_a_change_once(status: int) -> None:
    with server(status, b"<html>", retry_after_ms="1") as (calls, asked):
        with pytest.raises(CloudError) as read:
            calls.read("resources", "resource_groups.get", "", "g")
        assert len(asked) == 3
        with pytest.raises(CloudError):
            calls.change("resources", "resource_groups.create_or_update", "", "g", {"location": "eastus"})
        with pytest.raises(CloudError):
            calls.change("resources", "resource_groups.begin_delete", "", "g")
        assert len(asked) == 5
    assert read.value.code in {"cloud_unreachable", "cloud_throttled"}


def test_who_is_asked_to_wait_long_is_told_so_and_does_not_wait() -> None:
    with server(429, b"", retry_after="1235") as (calls, asked):
        with pytest.raises(CloudError) as raised:
            calls.read("resources", "resource_groups.get", "", "g")
        assert len(asked) == 1
    assert (raised.value.code, raised.value.retry_after_s) == ("cloud_throttled", 1235.0)


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"{", b"[]", b'"text"', b"null", b"{}"])
def test_an_answer_that_is_none_is_an_error_of_ours(body: bytes) -> None:
    with server(200, body, content_type="application/json") as (calls, _):
        with pytest.raises(CloudError) as raised:
            read_resource(calls, parse("/subscriptions/s/resourceGroups/g"), "")
        assert raised.value.code == "cloud_unknown"
        if body != b"{}":
            with pytest.raises(CloudError):
                calls.get("/subscriptions/s")


def test_an_operation_that_is_asked_about_elsewhere_is_not_asked_about() -> None:
    """An answer that names another server's address gets no token sent there."""
    with server(202, b"", location="http://127.0.0.2:9/steal", retry_after_ms="1") as (calls, asked):
        begun = calls.change("resources", "resource_groups.begin_delete", "", "g")
        with pytest.raises(CloudError) as raised:
            calls.step(begun.token)
        assert len(asked) == 1
    assert raised.value.code == "credentials_mixed"


def test_a_redirection_is_not_followed() -> None:
    with server(307, b"", location="http://127.0.0.2:9/steal") as (calls, asked):
        with pytest.raises(CloudError) as raised:
            calls.read("resources", "resource_groups.get", "", "g")
        assert len(asked) == 1
    assert raised.value.code == "cloud_unknown"


def test_no_server_at_all_is_unreachable_and_sent_nothing() -> None:
    with server(200, b"") as (calls, _):
        pass
    with pytest.raises(CloudError) as raised:
        calls.change("resources", "resource_groups.begin_delete", "", "g")
    assert (raised.value.code, raised.value.ambiguous) == ("cloud_unreachable", False)
    assert "grafos emulate" in raised.value.next


def test_a_token_that_another_version_wrote_leaves_the_question_to_the_resource() -> None:
    with server(200, b"{}") as (calls, asked):
        for token in ("not base64!", "aGVsbG8=", "e30="):
            assert calls.step(token).state == "unknown"
        assert asked == []
