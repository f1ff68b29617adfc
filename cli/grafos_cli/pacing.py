"""What of the steps is to be seen at a moment: decided from the steps and the moment alone, so tests need no waiting.

A person sees a first sign soon, but nothing flickers up for work that is done at once; then something changes all the
time. A log gets a line for each step that ends, and now and then one for a step that takes long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_SIGN_S = 0.2
"""Nobody waits longer without a sign; what is done by then shows none."""
REDRAW_EVERY_S = 0.1
"""On a terminal. The time that is shown moves with each: the promise is a change every two seconds at the latest."""
PLAIN_LINE_EVERY_S = 10.0
"""Without a terminal a step that takes long says so this often."""
LOOK_EVERY_S = 0.5
"""How often somebody looks whether such a line is due."""

Frame = list[list[tuple[str, str]]]
"""Lines of pieces, each with its style."""

UNICODE, ASCII = ("✓", "✗", "–", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"), ("+", "x", "-", "|/-\\")
"""The signs of what is done, failed and left, and those that turn."""


@dataclass
class Step:
    """One step as it stands. ``ended_at`` is 0 while it is under way; times are monotonic seconds. ``left``: whoever
    watched it has gone; ``told_at`` is when a line last told of it."""

    name: str
    began_at: float
    detail: str = ""
    ended_at: float = 0.0
    failed: bool = False
    left: bool = False
    told_at: float = 0.0

    def elapsed(self, now: float) -> float:
        """Seconds that it took, or takes so far."""
        return (self.ended_at or now) - self.began_at


@dataclass
class Book:
    """The steps in the order in which they began. ``waiting`` names what is waited for while there are none."""

    began_at: float
    predicted_s: float = 0.0
    waiting: str = ""
    steps: dict[str, Step] = field(default_factory=dict)
    told: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """How each step ended that a line has told of."""
    waiting_told_at: float = 0.0

    def began(self, name: str, now: float, detail: str = "") -> None:
        self.steps[name] = Step(name, now, detail)

    def changed(self, name: str, now: float, detail: str) -> None:
        if name not in self.steps or self.steps[name].ended_at:
            self.began(name, now)  # what was over begins anew: a machine in another zone needs its network again
        self.steps[name].detail = detail

    def ended(self, name: str, now: float, detail: str = "", *, failed: bool = False) -> None:
        if name not in self.steps:
            self.began(name, now)
        step = self.steps[name]
        step.detail, step.failed, step.ended_at = detail or step.detail, failed, now

    def close_open_steps(self, now: float, *, left: bool) -> None:
        """What is under way ends here, as failed or as left."""
        for step in self.open_steps():
            step.left, step.failed, step.ended_at = left, not left, now

    def open_steps(self) -> list[Step]:
        """What is under way."""
        return [step for step in self.steps.values() if not step.ended_at]


def frame_of(book: Book, now: float, *, unicode: bool) -> Frame:
    """The picture for a terminal; nothing during the first ``FIRST_SIGN_S``, or when there is nothing to tell."""
    if now - book.began_at < FIRST_SIGN_S:
        return []
    signs = UNICODE if unicode else ASCII
    turning = signs[3][int(now / REDRAW_EVERY_S) % len(signs[3])]
    if not book.steps:
        time = f"  {now - book.began_at:5.1f} s"
        return [[(f"  {turning} ", "cyan"), (book.waiting, "bold"), (time, "")]] if book.waiting else []
    width = max(len(name) for name in book.steps)
    lines = [_line(step, now, width, *_sign(step, signs, turning)) for step in book.steps.values()]
    if book.open_steps():
        expected = f" of about {book.predicted_s:.0f} s" if book.predicted_s else ""
        lines.append([(f"    {now - book.began_at:.1f} s{expected}", "dim")])
    return lines


def _sign(step: Step, signs: tuple[str, str, str, str], turning: str) -> tuple[str, str]:
    done, failed, left, _ = signs
    if not step.ended_at:
        return turning, "cyan"
    if step.left:
        return left, "yellow"
    return (failed, "red") if step.failed else (done, "green")


def _line(step: Step, now: float, width: int, sign: str, style: str) -> list[tuple[str, str]]:
    named = f"{step.name:<{width}}  {step.elapsed(now):5.1f} s"
    return [(f"  {sign} ", style), (named, "" if step.ended_at else "bold"), (f"  {step.detail}", "dim")]


def line_of(book: Book, name: str) -> str:
    """The line for a step that has ended; none for one that ended as it did before: nothing is new."""
    step = book.steps[name]
    before, book.told[name] = book.told.get(name), (step.detail, step.failed)
    if before == book.told[name]:
        return ""
    word = "failed" if step.failed else "done"
    return f"{name}: {word} in {step.elapsed(step.ended_at):.1f} s  {step.detail}".rstrip()


def life_signs(book: Book, now: float) -> list[str]:
    """A line for each step, and for what is waited for, that is under way and of which nothing was told for
    ``PLAIN_LINE_EVERY_S``; they count as told then."""
    lines = []
    for step in book.open_steps():
        if now - (step.told_at or step.began_at) >= PLAIN_LINE_EVERY_S:
            step.told_at = now
            lines.append(f"{step.name}: {step.elapsed(now):.0f} s so far{_expected(book, now)}  {step.detail}".rstrip())
    if not book.steps and book.waiting and now - (book.waiting_told_at or book.began_at) >= PLAIN_LINE_EVERY_S:
        book.waiting_told_at = now
        lines.append(f"{book.waiting}: {now - book.began_at:.0f} s so far")
    return lines


def _expected(book: Book, now: float) -> str:
    return f" ({now - book.began_at:.0f} s of about {book.predicted_s:.0f} s in all)" if book.predicted_s else ""
