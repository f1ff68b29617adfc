"""Shared regions from the command line, on a real local fabric."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator

import pytest
from agents import until
from command_line import Person, ends_with

from grafos_core.lease_refs import read_lease_ref


def test_a_region_is_leased_shown_renewed_and_ended(resident: Person) -> None:
    made = resident("lease", "create", "4k", "--provider", "local", "--ttl", "1m", "--json").document["lease"]
    assert (made["state"], made["size_bytes"], made["generation"]) == ("held", 4096, 1)
    ref = read_lease_ref(made["ref"].encode())
    assert (ref.lease_id, ref.cell, ref.generation) == (made["lease_id"], made["cell_id"], 1)
    listed = resident("lease", "ls")
    assert made["lease_id"] in listed.out
    assert "held" in listed.out
    renewed = resident("lease", "renew", made["lease_id"], "--ttl", "10m", "--json").document["lease"]
    assert renewed["generation"] == 2
    assert renewed["expires_at"] > made["expires_at"]
    shown = resident("lease", "show", made["lease_id"])
    assert f"reference  {renewed['ref']}\n" in shown.out
    ended = resident("lease", "rm", made["lease_id"])
    assert ended.code == 0
    assert "state      ended\n" in ended.out
    again = resident("lease", "rm", made["lease_id"], "--json").document["lease"]
    assert (again["state"], again["code"]) == ("ended", "")
    refused = resident("lease", "renew", made["lease_id"])
    assert (refused.error_code, "next:  lease another one: grafos lease create" in refused.err) == (
        "lease_expired",
        True,
    )


def test_the_first_example_of_the_help_fits_the_local_fabric(resident: Person) -> None:
    example = resident("lease", "create", "--help").out.splitlines()[1].split()
    assert example[:3] == ["grafos", "lease", "create"]
    made = resident(*example[1:], "--json")
    assert made.code == 0, made.err
    assert resident("lease", "rm", made.document["lease"]["lease_id"]).code == 0


def test_a_command_whose_answer_was_lost_finds_its_lease_when_it_is_given_again(resident: Person) -> None:
    kept = resident.project / ".grafos" / "runs"
    with scheduler_that_waits(resident):
        process = resident.starts("lease", "create", "8k", "--json")
        until(lambda: list(kept.glob("lease-*.json")), "the key of the lease")
        [key] = kept.glob("lease-*.json")
        written = key.read_bytes()
    first = ends_with(process).document["lease"]
    assert not key.exists()
    key.write_bytes(written)
    again = resident("lease", "create", "8k", "--json").document["lease"]
    assert again["lease_id"] == first["lease_id"]
    assert not key.exists()
    assert resident("lease", "rm", first["lease_id"]).code == 0
    key.write_bytes(written)
    anew = resident("lease", "create", "8k", "--json").document["lease"]
    assert (anew["state"], anew["lease_id"] == first["lease_id"]) == ("held", False), "one that was ended is not wanted"
    other = resident("lease", "create", "8k", "--json").document["lease"]
    assert other["lease_id"] != anew["lease_id"], "asked on purpose it is another one"
    for made in (anew, other):
        assert resident("lease", "rm", made["lease_id"]).code == 0


@contextlib.contextmanager
def scheduler_that_waits(person: Person) -> Iterator[None]:
    """Inside, the scheduler of the local fabric answers nobody."""
    record = json.loads((person.project / ".grafos" / "dev" / "dev.json").read_text())
    pid = record["daemons"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create", "1", "--provider", "local"), "usage"),
        (("create", "4k", "--provider", "local", "--ttl", "2h"), "usage"),
        (("create", "4k", "--provider", "local", "--ttl", "soon"), "usage"),
        (("create", "4g", "--provider", "local"), "placement_failed"),
        (("show", "0" * 32), "lease_unknown"),
        (("rm", "../.."), "usage"),
    ],
)
def test_what_cannot_be_leased_or_found_is_refused_in_a_line(
    resident: Person, words: tuple[str, ...], code: str
) -> None:
    answer = resident("lease", *words)
    assert answer.error_code == code
    assert "Traceback" not in answer.err


def test_a_size_that_the_cell_has_not_leaves_nothing_behind(resident: Person) -> None:
    before = resident("lease", "ls", "--json").document["leases"]
    resident("lease", "create", "1g", "--provider", "local")
    assert resident("lease", "ls", "--json").document["leases"] == before
