from __future__ import annotations

import os

import pytest

from grafos_cell.settings import Settings, read_settings, read_size
from grafos_core.errors import GrafosError

GOOD = ["control-server", "--scheduler", "https://127.0.0.1:7443", "--trust", "t", "--state", "s"]


def read(*more: str) -> Settings:
    return read_settings([*GOOD, *more])


def test_the_cell_leases_out_the_cores_it_may_use_and_a_small_pool() -> None:
    total = read().total
    assert (total.cpu_cores, total.mem_bytes, total.gpu_count) == (len(os.sched_getaffinity(0)), 128 * 1024, 0)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4096", 4096), ("128k", 2**17), ("16m", 2**24), ("2G", 2**31), ("1t", 2**40)]
)
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5g", "16mb", "9" * 20])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(GrafosError) as caught:
        read_size(text)
    assert caught.value.code == "config_invalid"


def test_the_command_at_the_end_is_split_into_words_and_no_shell_sees_it() -> None:
    assert read("--on-expiry", "shutdown -P now").on_expiry == ("shutdown", "-P", "now")
    with pytest.raises(GrafosError) as caught:
        read("--on-expiry", "echo 'unfinished")
    assert caught.value.code == "config_invalid"


@pytest.mark.parametrize("text", ["nan", "inf", "-1"])
def test_an_end_that_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(GrafosError) as caught:
        read("--expires-at", text)
    assert caught.value.code == "config_invalid"


@pytest.mark.parametrize("arguments", [[], ["serve"], GOOD[:-2], [*GOOD, "--what"]], ids=str)
def test_what_does_not_parse_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(GrafosError) as caught:
        read_settings(arguments)
    assert caught.value.code == "usage"
