"""Progress that a person enjoys: named steps with their time, redrawn on a terminal, plain lines elsewhere.

Steps are told by whoever does the work: ``began``, ``changed``, ``ended``. Several may be under way at once. With
``--json`` nothing is drawn. The display is on stderr, so the data on stdout stays data.

What is to be seen at a moment is decided from the steps and that moment alone (``pacing``); here is who asks for it,
how often, and what becomes of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from grafos_cli.characters import harmless
from grafos_cli.interrupts import was_pressed
from grafos_cli.pacing import LOOK_EVERY_S, REDRAW_EVERY_S, Book, frame_of, life_signs, line_of

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from grafos_cli.terminal import Terminal

Now = Callable[[], float]


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

    def note(self, line: str) -> None:
        """A remark, above what is drawn."""
        ...


@contextmanager
def show_steps(
    terminal: Terminal, predicted_s: float = 0.0, *, waiting: str = "", now: Now = time.monotonic
) -> Iterator[Steps]:
    """Steps that are drawn while the block runs. What is unfinished when it raises is drawn as failed, or after Ctrl-C
    as left: nobody knows here what becomes of it. ``waiting`` names what is waited for where there are no steps."""
    book = _Kept(terminal, now, predicted_s, waiting)
    if terminal.json:
        yield book
        return
    shown = _Drawn(terminal, book) if terminal.live else _Plain(terminal, book)
    pulse = _Pulse(shown.beat, REDRAW_EVERY_S if terminal.live else LOOK_EVERY_S)
    try:
        yield shown
    except BaseException:
        book.close_open_steps(left=was_pressed())
        raise
    finally:
        pulse.stop()
        shown.close()


class _Kept:
    """The book, for workers on several threads. With ``--json`` nothing more becomes of it."""

    def __init__(self, terminal: Terminal, now: Now, predicted_s: float, waiting: str) -> None:
        self.note = terminal.note
        self.now = now
        self.lock = threading.RLock()
        self.book = Book(now(), predicted_s, waiting)

    def began(self, name: str, detail: str = "") -> None:
        with self.lock:
            self.book.began(name, self.now(), detail)

    def changed(self, name: str, detail: str) -> None:
        with self.lock:
            self.book.changed(name, self.now(), detail)

    def ended(self, name: str, detail: str = "", *, failed: bool = False) -> None:
        with self.lock:
            self.book.ended(name, self.now(), detail, failed=failed)

    def close_open_steps(self, *, left: bool) -> None:
        with self.lock:
            self.book.close_open_steps(self.now(), left=left)


class _Pulse:
    """Calls again and again in a thread of its own, until it is stopped or nobody reads any more."""

    def __init__(self, beat: Callable[[], object], every_s: float) -> None:
        self._beat, self._every_s = beat, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last beat is over."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._beat()
            except (OSError, ValueError):  # the reader has left, or the stream is closed
                return


class _Drawn:
    """Redrawn by rich several times a second; rich is imported when there is something to draw."""

    def __init__(self, terminal: Terminal, kept: _Kept) -> None:
        self._terminal, self._kept = terminal, kept
        self._live: Live | None = None
        self.began, self.changed, self.ended = kept.began, kept.changed, kept.ended

    def note(self, line: str) -> None:
        with self._kept.lock:
            if self._live is None:
                self._terminal.note(line)
            else:
                self._live.console.print(harmless(line), markup=False, highlight=False)

    def beat(self) -> None:
        with self._kept.lock:
            frame = frame_of(self._kept.book, self._kept.now(), unicode=self._terminal.unicode)
            if frame or self._live is not None:
                self._draw(_as_text(frame))

    def close(self) -> None:
        """The last picture of the steps stays, if there was any; what was waited for without steps leaves no trace."""
        if self._live is not None:
            self._live.transient = not self._kept.book.steps
            self.beat()
            self._live.stop()

    def _draw(self, picture: Text) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._terminal.err, no_color=not self._terminal.color_err, highlight=False)
            self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(picture, refresh=True)


def _as_text(frame: list[list[tuple[str, str]]]) -> Text:
    from rich.text import Text

    lines = [Text.assemble(*((harmless(text), style) for text, style in line)) for line in frame]
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


class _Plain:
    """One line when a step ends, and a sign of life for one that takes long."""

    def __init__(self, terminal: Terminal, kept: _Kept) -> None:
        self._terminal, self._kept = terminal, kept
        self.began, self.changed, self.note = kept.began, kept.changed, terminal.note

    def ended(self, name: str, detail: str = "", *, failed: bool = False) -> None:
        kept = self._kept
        with kept.lock:
            kept.ended(name, detail, failed=failed)
            line = line_of(kept.book, name)
        if line:
            self._terminal.note(line)

    def beat(self) -> None:
        with self._kept.lock:
            lines = life_signs(self._kept.book, self._kept.now())
        for line in lines:
            self._terminal.note(line)

    def close(self) -> None:
        """There is nothing to take away."""
