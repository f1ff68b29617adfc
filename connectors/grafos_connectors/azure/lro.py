"""ARM's long-running operations, asked about one question at a time.

The SDK's poller starts a thread that waits and asks until the end. Here a change is begun, the continuation token of
the SDK's poller is kept, and each question resumes from it: in this process or in another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from azure.core.polling.base_polling import BadResponse, BadStatus
from azure.mgmt.core.polling.arm_polling import ARMPolling

from grafos_connectors.azure.errors import SERVER_ERROR, THROTTLED, Refusal, refusal_in, refused, translated

RUNNING, SUCCEEDED, FAILED, UNKNOWN = "running", "succeeded", "failed", "unknown"
LAST_WORDS = {"succeeded": SUCCEEDED, "failed": FAILED, "canceled": FAILED}
NOT_FOUND = 404
NOT_ABOUT_THE_OPERATION = frozenset({401, 403, 408, THROTTLED})  # the question was refused, the operation goes on


class Step(NamedTuple):
    """How a long-running operation stands: ``running``, ``succeeded``, ``failed``, or ``unknown`` when ARM has
    forgotten it, or never said where it can be asked about: then only the resource itself can tell."""

    state: str
    again_after_s: float = 0.0
    refusal: Refusal = Refusal()


class OneQuestion(ARMPolling):
    """The SDK's poller, which asks only when it is told to. ``initial_status`` is the HTTP number of the change."""

    initial_status = 0
    answer: Any = None

    def initialize(self, client: Any, initial_response: Any, deserialization_callback: Any) -> None:
        self.initial_status = initial_response.http_response.status_code
        self.answer = initial_response
        super().initialize(client, initial_response, deserialization_callback)

    def finished(self) -> bool:
        """Always: so that nobody starts a thread that asks."""
        return True

    def request_status(self, status_link: str) -> Any:
        self.answer = super().request_status(status_link)
        return self.answer

    def ask(self, token: str, client: Any) -> Step:
        """One question about the operation that ``token`` resumes. Raises ``BadStatus``, ``BadResponse``."""
        try:
            _, initial, read = self.from_continuation_token(token, client=client, deserialization_callback=_unread)
        except (ValueError, KeyError, TypeError):  # written by another version of the SDK
            return Step(UNKNOWN)
        self.initialize(client, initial, read)
        if self.status().lower() not in LAST_WORDS:
            self.update_status()
        state = LAST_WORDS.get(self.status().lower(), RUNNING)
        if state == FAILED:
            return Step(FAILED, refusal=refusal_in(self.answer.http_response.text()))
        return Step(state, again_after_s=float(self._extract_delay()))


def step(token: str, client: Any, pause_s: float, region: str) -> Step:
    """How the operation stands, by one question; raises ``CloudError`` when the question was refused.

    ``pause_s``: when to ask again if ARM does not say.
    """
    if not token:
        return Step(UNKNOWN)
    poller = OneQuestion(pause_s)
    with translated("asking about an operation", region, changing=False):
        try:
            return poller.ask(token, client)
        except BadStatus:
            return _said_no(poller.answer.http_response, region)
        except BadResponse:
            return Step(UNKNOWN)


def _said_no(response: Any, region: str) -> Step:
    """A question that was answered with an error: the operation's own, if the number can mean that."""
    status = response.status_code
    if status == NOT_FOUND:
        return Step(UNKNOWN)
    refusal = refusal_in(response.text())
    if status in NOT_ABOUT_THE_OPERATION or status >= SERVER_ERROR:
        raise refused(refusal, status, response.headers, "asking about an operation", region, changing=False)
    return Step(FAILED, refusal=refusal)


def _unread(_: Any) -> None:
    """What stayed is read by its own GET."""
