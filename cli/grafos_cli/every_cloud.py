"""Every cloud that is meant is asked, and worked on, at the same time; what one refuses hides nothing of the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from grafos_cli.accounts import ABSENT, ALL, hands_for, no_account, open_account, providers_in, told_of
from grafos_cli.checkups.clouds import is_set_up
from grafos_cli.failures import error_text, with_next_step
from grafos_cli.interrupts import resumable
from grafos_cli.steps import show_steps
from grafos_core.errors import GrafosError
from grafos_stacks.side_by_side import side_by_side

if TYPE_CHECKING:
    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Connector
    from grafos_core.fabric import Fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.progress import Progress

Result = TypeVar("Result")
Wanted = TypeVar("Wanted")


@dataclass(frozen=True)
class Cloud(Generic[Result]):
    """One that answered, and what it answered."""

    connector: Connector
    found: Result


@dataclass(frozen=True)
class Around(Generic[Result]):
    """What a look at all of them came to, each in the order of the clouds' names."""

    clouds: tuple[Cloud[Result], ...]
    failures: tuple[tuple[str, GrafosError], ...]

    @property
    def found(self) -> list[Result]:
        """What was found, cloud by cloud."""
        return [cloud.found for cloud in self.clouds]


@dataclass(frozen=True)
class Question(Generic[Result]):
    """What each cloud is asked, and how it is told: a word for what is looked at, and one for what was found."""

    ask: Callable[[Connector, Progress], Result]
    told: Callable[[Result], str]
    where: str = "every region"


def look_around(
    word: str, question: Question[Result], terminal: Terminal, needed: frozenset[str] = frozenset()
) -> Around[Result]:
    """Asks each cloud that ``word`` means. With ``all`` a cloud without credentials is left out and that is said,
    unless it is ``needed``: the fabric has cells there, so nothing could be called clean without it.

    Raises what stood in the way if no cloud answered. Ctrl-C waits for none: whoever only looks may be left.
    """
    asked = _meant(word, terminal, needed)
    answers = _answers(asked, question, terminal)
    clouds = tuple(answer for answer in answers.values() if not isinstance(answer, GrafosError))
    refused = [(provider, answer) for provider, answer in answers.items() if isinstance(answer, GrafosError)]
    absent = [one for one in refused if word == ALL and one[1].code in ABSENT and one[0] not in needed]
    failures = tuple(one for one in refused if one not in absent)
    for provider, error in absent:
        terminal.note(f"{provider} is left out: {error.what}")
    if not clouds:
        tell_failures(failures[1:], terminal)
        raise (failures or absent)[0][1]
    return Around(clouds, failures)


def _meant(word: str, terminal: Terminal, needed: frozenset[str]) -> list[str]:
    """The clouds to ask, without those that nobody has set up. When that is none of them, the error alone says so."""
    named = providers_in(word)
    asked = [
        provider
        for provider in named
        if word != ALL or provider in needed or is_set_up(provider, os.environ, Path.home())
    ]
    if not asked:
        raise no_account()
    for provider in named:
        if provider not in asked:
            terminal.note(f"{provider} is left out: no credentials of it are in sight")
    return asked


def _answers(
    providers: Sequence[str], question: Question[Result], terminal: Terminal
) -> Mapping[str, Cloud[Result] | GrafosError]:
    pool = ThreadPoolExecutor(len(providers), thread_name_prefix="cloud")
    try:
        with show_steps(terminal) as steps:
            for provider in providers:
                steps.began(f"look at {provider}", "signing in")
            works = [pool.submit(_answer, provider, question, steps) for provider in providers]
            return {provider: work.result() for provider, work in zip(providers, works, strict=True)}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _answer(provider: str, question: Question[Result], steps: Steps) -> Cloud[Result] | GrafosError:
    name = f"look at {provider}"
    try:
        connector = open_account(provider)
        steps.changed(name, question.where)
        found = question.ask(connector, told_of(steps, provider))
    except GrafosError as error:
        steps.ended(name, error.what, failed=True)
        return error
    steps.ended(name, question.told(found))
    return Cloud(connector, found)


def work_around(
    clouds: Sequence[Cloud[Wanted]],
    fabric: Fabric,
    terminal: Terminal,
    work: Callable[[Hands, Wanted, Steps], Result],
) -> Around[Result]:
    """Does in each cloud what was found to be done there. Raises nothing but ``interrupted``, after all have stopped
    where they can go on."""
    stopping = resumable("Stopped before it was finished", "the same command again goes on from there")
    hands = hands_for([cloud.connector for cloud in clouds], fabric)
    with stopping, hands as accounts, show_steps(terminal) as steps:
        hands_of = {one.connector.provider: one for one in accounts}
        named = [(cloud.connector.provider, cloud) for cloud in clouds]
        came = side_by_side(
            hands_of,
            named,
            lambda own, cloud: work(own[cloud.connector.provider], cloud.found, steps),
            lambda provider: told_of(steps, provider),
        )
    outcomes = list(zip((cloud.connector for cloud in clouds), came, strict=True))
    return Around(
        tuple(Cloud(connector, found) for connector, found in outcomes if not isinstance(found, GrafosError)),
        tuple((connector.provider, error) for connector, error in outcomes if isinstance(error, GrafosError)),
    )


def tell_failures(failures: Sequence[tuple[str, GrafosError]], terminal: Terminal) -> None:
    """On stderr, each with its next step."""
    for provider, error in failures:
        terminal.note(
            f"{provider} could not be asked to the end:\n{error_text(with_next_step(error), terminal).rstrip()}"
        )


def failures_document(failures: Sequence[tuple[str, GrafosError]]) -> list[dict[str, Any]]:
    """For programs."""
    return [{"provider": provider, **with_next_step(error).to_wire()} for provider, error in failures]
