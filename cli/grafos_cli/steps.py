"""Progress that a person enjoys: named steps with their time, redrawn on a terminal, plain lines elsewhere.

Steps are told by whoever does the work: ``began``, ``changed``, ``ended``. Several may be under way at once. With
``--json`` nothing is drawn. The display is on stderr, so the data on stdout stays data.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.text import Text

    from grafos_cli.terminal import Terminal

PLAIN_LINE_EVERY_S = 10.0
"""Without a terminal a step that takes long says so this often."""
REDRAWS_PER_S = 10


@dataclass
class Step:
    """One step as it stands. ``ended_at`` is 0 while it is under way; times are monotonic seconds."""

    name: str
    began_at: float
    detail: str = ""
    ended_at: float = 0.0
    failed: bool = False

    def elapsed(self, now: float) -> float:
        """Seconds that it took, or takes so far."""
        return (self.ended_at or now) - self.began_at


class Steps(Protocol):
    """What the workers see."""

    def began(self, name: str, detail: str = "") -> None:
        """The step is under way."""
        ...

    def changed(self, name: str, detail: str) -> None:
        """Something about it is new."""
        ...

    def ended(self, name: str, detail: str = "", *, failed: bool = False) -> None:
        """It is over; a step that never began gets no time."""
        ...


@contextmanager
def show_steps(terminal: Terminal, predicted_s: float = 0.0) -> Iterator[Steps]:
    """Steps that are drawn while the block runs. What is unfinished when it raises is drawn as failed."""
    if terminal.json:
        yield _Silent()
    elif terminal.live:
        from rich.console import Console
        from rich.live import Live

        drawing = _Drawn(predicted_s)
        console = Console(file=terminal.err, no_color=not terminal.color_err, highlight=False)
        with Live(drawing, console=console, refresh_per_second=REDRAWS_PER_S, redirect_stdout=False):
            try:
                yield drawing
            except BaseException:
                drawing.fail_open_steps()
                raise
    else:
        plain = _Plain(terminal)
        try:
            yield plain
        finally:
            plain.close()


class _Book:
    """The steps in the order in which they began; whoever works may do so on several threads."""

    def __init__(self) -> None:
        self.began_at = time.monotonic()
        self.steps: dict[str, Step] = {}
        self.lock = threading.RLock()

    def began(self, name: str, detail: str = "") -> None:
        with self.lock:
            self.steps[name] = Step(name, time.monotonic(), detail)

    def changed(self, name: str, detail: str) -> None:
        with self.lock:
            if name not in self.steps or self.steps[name].ended_at:
                self.began(name)  # what was over begins anew: a machine in another zone needs its network again
            self.steps[name].detail = detail

    def ended(self, name: str, detail: str = "", *, failed: bool = False) -> None:
        with self.lock:
            if name not in self.steps:
                self.began(name)
            step = self.steps[name]
            step.detail, step.failed, step.ended_at = detail or step.detail, failed, time.monotonic()


class _Silent(_Book):
    """Keeps nothing but what it was told."""


class _Drawn(_Book):
    """Redrawn by rich several times a second."""

    def __init__(self, predicted_s: float) -> None:
        super().__init__()
        self._predicted_s = predicted_s
        unicode = (sys.stderr.encoding or "").lower().startswith("utf")
        self._done, self._failed, self._frames = ("✓", "✗", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏") if unicode else ("+", "x", "|/-\\")

    def fail_open_steps(self) -> None:
        """What is under way ends here."""
        with self.lock:
            for step in self.steps.values():
                if not step.ended_at:
                    step.failed, step.ended_at = True, time.monotonic()

    def __rich__(self) -> Text:
        from rich.text import Text

        now, text = time.monotonic(), Text()
        with self.lock:
            width = max((len(step.name) for step in self.steps.values()), default=0)
            for step in self.steps.values():
                sign, style = self._sign(step, now)
                text.append(f"  {sign} ", style=style)
                text.append(f"{step.name:<{width}}  {step.elapsed(now):5.1f} s", style="" if step.ended_at else "bold")
                text.append(f"  {step.detail}\n", style="dim")
            total = now - self.began_at
            expected = f" of about {self._predicted_s:.0f} s" if self._predicted_s else ""
            if any(not step.ended_at for step in self.steps.values()):
                text.append(f"    {total:.1f} s{expected}", style="dim")
        text.rstrip()
        return text

    def _sign(self, step: Step, now: float) -> tuple[str, str]:
        if step.ended_at:
            return (self._failed, "red") if step.failed else (self._done, "green")
        return self._frames[int(now * REDRAWS_PER_S) % len(self._frames)], "cyan"


class _Plain(_Book):
    """One line when a step ends, and a sign of life for one that takes long."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal
        self._told: dict[str, tuple[str, bool]] = {}
        self._closed = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)
        self._pulse.start()

    def ended(self, name: str, detail: str = "", *, failed: bool = False) -> None:
        super().ended(name, detail, failed=failed)
        with self.lock:
            step = self.steps[name]
            before, self._told[name] = self._told.get(name), (step.detail, failed)
        if before == (step.detail, failed):
            return  # found as it was left: nothing is new
        word = "failed" if failed else "done"
        self._terminal.note(f"{name}: {word} in {step.elapsed(time.monotonic()):.1f} s  {step.detail}".rstrip())

    def close(self) -> None:
        self._closed.set()

    def _beat(self) -> None:
        while not self._closed.wait(PLAIN_LINE_EVERY_S):
            with self.lock:
                open_steps = [step for step in self.steps.values() if not step.ended_at]
            now = time.monotonic()
            for step in open_steps:
                self._terminal.note(f"{step.name}: {step.elapsed(now):.0f} s so far  {step.detail}".rstrip())
