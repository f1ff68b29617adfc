"""What an event comes to at a scheduler.

``decide`` turns one event into one ``Decision``:

    decision = decide(state, event, clock.now(), chance)     # pure; a GrafosError refuses and changes nothing
    state.apply(decision.changes)                            # later decisions build on it at once
    await store.commit(decision.batch, epoch)                # durable
    ...only now carry out decision.effects, in order, and give decision.answer (or decision.refusal) to the asker

When the commit fails, nothing was promised to anybody: the process ends and starts again from the store.
Effects may be lost (a crash, a cut link): all of them are decided anew from state when the link opens again.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from grafos_core.changes import Batch
from grafos_core.errors import GrafosError
from grafos_scheduler import frames


@dataclass(frozen=True, slots=True)
class SendToCell:
    """Send ``frame`` over this very link; if it is closed or another has taken its place, drop the frame."""

    cell_id: str
    link_id: int
    frame: frames.DownFrame


@dataclass(frozen=True, slots=True)
class CloseLink:
    """End a link whose place another has taken."""

    cell_id: str
    link_id: int


@dataclass(frozen=True, slots=True)
class RunMoved:
    """The run has a new state; wake whoever waits for it."""

    run_id: str


@dataclass(frozen=True, slots=True)
class InstanceMoved:
    """The instance of a service has a new state; its sessions may have to end."""

    instance_id: str


Effect = SendToCell | CloseLink | RunMoved | InstanceMoved


@dataclass(frozen=True, slots=True)
class Decision:
    """What one event comes to.

    ``batch`` must be durable before any effect is carried out or anything is answered. ``volatile`` is state that a
    restart may forget (who is connected, tokens in hand); it is never stored. ``refusal`` takes the place of the
    answer when a refusal is itself a record (a refused run); it is an error to the asker all the same.
    """

    batch: Batch = ()
    effects: tuple[Effect, ...] = ()
    answer: msgspec.Struct | None = None
    volatile: Batch = ()
    refusal: GrafosError | None = None

    @property
    def changes(self) -> Batch:
        """All that ``State.apply`` takes in."""
        return self.batch + self.volatile
