"""What all benchmarks share: ours and a peer take turns, and a row tells their medians, ratio, spread and goal.

The ratio is the median of the turns' ratios, the spread their middle half; so a busy machine hits both sides alike.
It is written so that the goal reads as it was set: ``<= 3x`` is ours over the peer's, ``>= 80x`` is how many times
as good ours is. A missing peer is told in its row, and no figure is a promise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

Measure = Callable[[], float]
"""One turn: a figure in the row's unit."""

HEADS = ("what", "beside", "ours", "peer", "ratio (spread)", "goal", "verdict")
MET, SHORT = "met", "falls short"


@dataclass(frozen=True, slots=True)
class Goal:
    """``ratio`` bounds the ratio, ``figure`` our own figure: from below if ``is_least``, else from above."""

    ratio: float | None = None
    figure: float | None = None
    is_least: bool = False

    def text(self, unit: str) -> str:
        sign = ">=" if self.is_least else "<="
        told = [f"{sign} {self.ratio:g}x"] if self.ratio is not None else []
        return ", ".join(told + ([f"{sign} {self.figure:g} {unit}"] if self.figure is not None else []))

    def is_met(self, ours: float, ratio: float | None) -> bool:
        pairs = [(self.ratio, ratio), (self.figure, ours)]
        bounds = [(bound, seen) for bound, seen in pairs if bound is not None and seen is not None]
        return all(seen >= bound if self.is_least else seen <= bound for bound, seen in bounds)


@dataclass(frozen=True, slots=True)
class Row:
    """One line. ``note`` says what the figures cannot: a missing peer, or what was not measured."""

    what: str
    beside: str = ""
    unit: str = ""
    ours: float | None = None
    peer: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    goal: str = ""
    verdict: str = ""
    note: str = ""


def compare(
    what: str,
    beside: str,
    unit: str,
    ours: Measure,
    peer: Measure | None,
    *,
    turns: int,
    goal: Goal | None = None,
    note: str = "",
    warms: bool = True,
) -> Row:
    """Measures in turns. A unit with ``/s`` in it is a rate, where more is better; others are costs. ``warms``: once
    before it counts, for caches, byte code and pages."""
    if warms:
        ours()
    if peer is None:
        return alone(what, unit, statistics.median(ours() for _ in range(turns)), beside=beside, goal=goal, note=note)
    if warms:
        peer()
    return paired(what, beside, unit, [(ours(), peer()) for _ in range(turns)], goal=goal, note=note)


def paired(
    what: str,
    beside: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    *,
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """The row of turns that were measured, ours and the peer's of each."""
    row = alone(what, unit, statistics.median(mine for mine, _ in pairs), beside=beside, goal=goal, note=note)
    upside_down = (goal is not None and goal.is_least) and "/s" not in unit
    ratios = [theirs / mine if upside_down else mine / theirs for mine, theirs in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    theirs = statistics.median(figure for _, figure in pairs)
    row = replace(row, peer=theirs, ratio=middle, low=low, high=high)
    return replace(row, verdict=_verdict(row, goal))


def alone(what: str, unit: str, ours: float, *, beside: str = "", goal: Goal | None = None, note: str = "") -> Row:
    """A row without a peer's figure."""
    row = Row(what, beside, unit, ours, goal=goal.text(unit) if goal else "", note=note)
    return replace(row, verdict=_verdict(row, goal))


def _verdict(row: Row, goal: Goal | None) -> str:
    """Empty where there is nothing to judge by: a goal that is a ratio, and no peer."""
    if goal is None or row.ours is None or (row.ratio is None and goal.ratio is not None):
        return ""
    return MET if goal.is_met(row.ours, row.ratio) else SHORT


def show(rows: Iterable[Row], *, as_json: bool = False, quick: bool = False) -> None:
    """The rows as they come; then, if asked for, all of them again as one line of JSON. A ``quick`` look judges
    nothing: it shows that each row can be measured, and its goal."""
    print(" | ".join(HEADS), flush=True)
    kept = []
    for each in rows:
        row = replace(each, verdict="") if quick else each
        kept.append(row)
        print(_line(row), flush=True)
    if as_json:
        print(json.dumps({"measured": machine(), "rows": [asdict(row) for row in kept]}))


def machine() -> dict[str, str]:
    """What the figures were measured on, and how busy it was."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def run(doc: str | None, rows: Callable[..., Iterator[Row]]) -> None:
    """What a benchmark does when it is run by itself."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little work and few turns: to see that it runs")
    parser.add_argument("--json", action="store_true", help="the rows once more, as one line of JSON")
    asked = parser.parse_args()
    show(rows(quick=asked.quick), as_json=asked.json, quick=asked.quick)


def tell(text: str) -> None:
    """Progress, for people; standard output has the rows alone."""
    print(text, file=sys.stderr, flush=True)


def _line(row: Row) -> str:
    ratio = f"{row.ratio:.2f}x ({row.low:.2f}-{row.high:.2f})" if row.ratio is not None else "-"
    cells = [row.what, row.beside or "-", _figure(row.ours, row.unit), _figure(row.peer, row.unit), ratio]
    return " | ".join([*cells, row.goal or "-", row.verdict or "-"]) + (f"   # {row.note}" if row.note else "")


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}"
