"""Asking a cloud: a question changes nothing, so one that did not get through is simply asked again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from grafos_connectors.contract import CloudError, Connector, Identity
from grafos_core.errors import GrafosError
from grafos_stacks.recovery import back_off_s

QUESTIONS_MAX = {"cloud_throttled": 10, "cloud_unreachable": 6}
"""How often a question is asked, by why it did not get through. A cloud that asks for fewer requests is given more than
a minute; an endpoint that does not answer half of that, for it may be the wrong one."""
THROTTLED = ("cloud_throttled",)
USE_THAT_ACCOUNT = "use the credentials of that account"

Answer = TypeVar("Answer")


def identity_of(connector: Connector, sleep: Callable[[float], object]) -> Identity:
    """Who asks: the first question to any cloud, so the one that meets its request limit. Without an answer at all it
    is not asked again: credentials and endpoints are tried by it."""
    return ask(connector.identity, sleep, THROTTLED)


def check_account(what: str, made_in: str, account: str, next_step: str = USE_THAT_ACCOUNT) -> None:
    """``cloud_auth`` when the credentials are for another account than the one that ``what`` ("cell-1 was made") names:
    there everything looks gone."""
    if account != made_in:
        raise GrafosError(
            "cloud_auth", f"{what} in account {made_in}, and these credentials are for {account}", next=next_step
        )


def ask(
    question: Callable[[], Answer], sleep: Callable[[float], object], codes: Collection[str] = QUESTIONS_MAX
) -> Answer:
    """The answer, asked again after a growing pause for as long as the refusals are of ``codes`` and not too many."""
    asked = 0
    while True:
        asked += 1
        try:
            return question()
        except CloudError as error:
            if error.code not in codes or asked >= QUESTIONS_MAX[error.code]:
                raise
            sleep(max(error.retry_after_s, back_off_s(asked)))
