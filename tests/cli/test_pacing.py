"""When progress shows what: the clock is an argument, and nobody waits."""

from __future__ import annotations

import pytest

from grafos_cli.pacing import (
    ASCII,
    FIRST_SIGN_S,
    PLAIN_LINE_EVERY_S,
    REDRAW_EVERY_S,
    UNICODE,
    Book,
    frame_of,
    life_signs,
    line_of,
)

CHANGE_S_MAX = 2.0
"""What is promised: something on the screen is new at least this often."""
BEGAN = 100.0


@pytest.fixture
def book() -> Book:
    """A machine is being made; it is expected to take 40 s."""
    book = Book(BEGAN, predicted_s=40.0)
    book.began("machine", BEGAN, "pending")
    return book


def drawn(book: Book, now: float, *, unicode: bool = True) -> str:
    return "\n".join("".join(text for text, _ in line) for line in frame_of(book, now, unicode=unicode))


def test_the_promised_times() -> None:
    assert (FIRST_SIGN_S, PLAIN_LINE_EVERY_S) == (0.2, 10.0)
    assert FIRST_SIGN_S + REDRAW_EVERY_S < CHANGE_S_MAX


def test_what_is_done_at_once_shows_nothing_and_anything_longer_shows_a_sign(book: Book) -> None:
    assert drawn(book, BEGAN + 0.19) == ""
    assert "machine" in drawn(book, BEGAN + FIRST_SIGN_S)
    book.ended("machine", BEGAN + 0.1)
    assert drawn(book, BEGAN + 0.15) == ""


def test_a_step_under_way_changes_every_two_seconds_at_the_latest(book: Book) -> None:
    pictures = {drawn(book, BEGAN + 1 + number * CHANGE_S_MAX) for number in range(50)}
    assert len(pictures) == 50


def test_the_step_is_named_with_its_time_and_the_expected_one(book: Book) -> None:
    picture = drawn(book, BEGAN + 12.3)
    assert "machine   12.3 s  pending" in picture
    assert "12.3 s of about 40 s" in picture
    book.ended("machine", BEGAN + 13.0, "running")
    assert drawn(book, BEGAN + 99.0) == "  ✓ machine   13.0 s  running"


def test_a_step_that_is_left_is_not_said_to_have_failed(book: Book) -> None:
    book.began("network", BEGAN)
    book.ended("network", BEGAN + 1, failed=True)
    book.close_open_steps(BEGAN + 2, left=True)
    signs = [line.split()[0] for line in drawn(book, BEGAN + 3).splitlines()]
    assert signs == ["–", "✗"]
    broken = Book(BEGAN)
    broken.began("machine", BEGAN)
    broken.close_open_steps(BEGAN + 2, left=False)
    assert drawn(broken, BEGAN + 3).split()[0] == "✗"


def test_without_unicode_every_sign_is_ascii(book: Book) -> None:
    book.ended("network", BEGAN + 1, failed=True)
    book.ended("disk", BEGAN + 1)
    pictures = [drawn(book, BEGAN + 1 + number / 10, unicode=False) for number in range(10)]
    book.close_open_steps(BEGAN + 3, left=True)
    assert all(picture.isascii() for picture in [*pictures, drawn(book, BEGAN + 4, unicode=False)])
    assert len(set("".join(ASCII[:3]))) == len(set("".join(UNICODE[:3]))) == 3


def test_what_is_waited_for_is_named_where_there_are_no_steps() -> None:
    book = Book(BEGAN, waiting="asking aws")
    assert drawn(book, BEGAN + 0.1) == ""
    assert drawn(book, BEGAN + 1.5).endswith("asking aws    1.5 s")
    assert life_signs(book, BEGAN + 9.9) == []
    assert life_signs(book, BEGAN + 10.0) == ["asking aws: 10 s so far"]
    assert drawn(Book(BEGAN), BEGAN + 9) == ""


def test_a_log_gets_a_line_every_ten_seconds_for_each_step_under_way(book: Book) -> None:
    told = [(second, line) for second in range(35) for line in life_signs(book, BEGAN + second)]
    assert [second for second, _ in told] == [10, 20, 30]
    assert told[0][1] == "machine: 10 s so far (10 s of about 40 s in all)  pending"
    book.ended("machine", BEGAN + 35)
    assert life_signs(book, BEGAN + 60) == []


def test_a_log_gets_one_line_for_each_end_that_is_new(book: Book) -> None:
    book.ended("machine", BEGAN + 2.5, "running")
    assert line_of(book, "machine") == "machine: done in 2.5 s  running"
    book.changed("machine", BEGAN + 3, "")
    book.ended("machine", BEGAN + 4, "running")
    assert line_of(book, "machine") == ""
