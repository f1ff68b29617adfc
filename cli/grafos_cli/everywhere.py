"""Asks every scheduler of the fabric that may live, and remembers who said nothing: silence is no answer.

Who looks for one thing and hears of it from nobody, or lists things and hears of none, must know if all were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from grafos_cli.reach import Reach, known_reaches
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric

Answer = TypeVar("Answer")

NOT_OURS = ("credentials_missing", "rights_missing")
"""Where we may not ask we have nothing, as long as somebody else could be asked."""


class Silence(NamedTuple):
    """Who could not be asked, and why. ``url`` is empty where not even that is known."""

    scheduler: str
    url: str
    error: GrafosError


def everywhere(terminal: Terminal) -> Everywhere:
    """Of the fabric and the project that a command stands in."""
    from grafos_cli.fabric import open_default
    from grafos_cli.project import project_folder

    return Everywhere(open_default(terminal), project_folder(), terminal)


class Everywhere:
    """The schedulers that somebody reaches from here. Each that does not answer is told in a note."""

    def __init__(self, fabric: Fabric, project: Path, terminal: Terminal) -> None:
        self.fabric = fabric
        self.project = project
        self._terminal = terminal
        self._silent: list[Silence] = []
        self._has_answered = False

    def ask(self, question: Callable[[Reach], Answer], *says_no: str) -> Iterator[tuple[Reach, Answer]]:
        """The answers, each with who gave it. Whose error has one of the codes ``says_no`` has answered too. What is
        told of silence is that of the last asking."""
        failed: list[tuple[str, GrafosError]] = []
        reaches = known_reaches(self.fabric, self.project, self._terminal, failed)
        self._silent = [Silence(name, "", error) for name, error in failed]
        self._has_answered = False
        for reach in reaches:
            try:
                answer = question(reach)
            except GrafosError as error:
                if error.code in says_no:
                    self._has_answered = True
                    continue
                self._terminal.note(f"note: {reach.cell_id} at {reach.url} could not be asked: {error.what}")
                self._silent.append(Silence(reach.cell_id, reach.url, error))
            else:
                self._has_answered = True
                yield reach, answer

    def unless_silent(self, error: GrafosError) -> GrafosError:
        """The error for what nobody told of: ``error`` where all could be asked, else why one could not be."""
        silence = self._of_weight()
        return error if silence is None else self._not_known(silence, error.what)

    def check_list(self, found: Sequence[object]) -> None:
        """Raises why somebody could not be asked if nothing was found: an empty list would say that there is none."""
        silence = self._of_weight()
        if not found and silence is not None:
            raise self._not_known(silence, "Nobody who answers has any")

    def documents(self) -> list[dict[str, str]]:
        """Who could not be asked, as the field ``silent`` of a list in JSON."""
        return [
            {"scheduler": one.scheduler, "url": one.url, "code": one.error.code, "what": one.error.what}
            for one in self._silent
        ]

    def _of_weight(self) -> Silence | None:
        """The first silence that leaves open whether there is more."""
        silent = self._silent
        if self._has_answered:
            silent = [one for one in silent if one.error.code not in NOT_OURS]
        return silent[0] if silent else None

    def _not_known(self, silence: Silence, what: str) -> GrafosError:
        asked = f"{silence.scheduler} could not be asked"
        return GrafosError(
            silence.error.code,
            f"{what}, and {asked}: {silence.error.what}",
            where=silence.error.where or silence.url,
            why=silence.error.why,
            next=silence.error.next,
            context={**silence.error.context, "silent": self.documents()},
        )
