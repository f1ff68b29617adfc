"""An engine's words as people are told them: who holds a stack, what is being done, and what was refused."""

from __future__ import annotations

import os
import socket
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.automation.events import EngineEvent

from grafos_core.errors import GrafosError
from grafos_stacks.progress import Step
from grafos_stacks.pulumi.answers import told
from grafos_stacks.pulumi.events import Heard, refusal_in
from grafos_stacks.pulumi.locks import held, holders_in

HERE = socket.gethostname()
LOCKED = """error: the stack is currently locked by {count} lock(s). Either wait for the other process(es) to end or
delete the lock file with `pulumi cancel`.
  {place}/dev/one.json{more}: created by somebody@{host} (pid {pid}) at 2026-11-22T00:00:00Z
"""


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("file:///home/me/state/.pulumi/locks/organization/grafos-cloud", ""),
        ("postgres://****:****@db/state/.pulumi/locks/organization/grafos-cloud", "?sslmode=disable"),
        ("s3://bucket/.pulumi/locks/organization/grafos-cloud", "?region=us-east-1"),
    ],
)
def test_who_holds_a_stack_is_told_for_every_backend(place: str, more: str) -> None:
    [holder] = holders_in(LOCKED.format(count=1, place=place, more=more, host="far.example", pid=12))
    assert (holder.host, holder.pid, holder.is_dead) == ("far.example", 12, False)
    error = held("dev", (holder,), holder.since + 90)
    assert "held by process 12 of somebody on far.example, for 90 s" in error.what
    assert "pulumi cancel, on that machine" in error.next


def test_only_a_process_of_this_machine_is_known_to_be_dead() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    texts = [LOCKED.format(count=1, place="file:///s", more="", host=HERE, pid=pid) for pid in (dead.pid, os.getpid())]
    assert [one.is_dead for text in texts for one in holders_in(text)] == [True, False]
    assert "pulumi cancel" not in held("dev", holders_in(texts[1]), 0.0).next


def test_a_refusal_of_ours_arrives_as_it_was_raised_whatever_the_engine_puts_before_it() -> None:
    refused = GrafosError("budget_exceeded", "it may cost 9¢, and 1¢ is free", where="the ledger", next="raise the cap")
    for head in ("", "grafos:cell:Plan resource 'it' has a problem: ", "error: rpc error: code = Aborted desc = "):
        came = refusal_in(["update failed", f"{head}{told(refused)}"])
        assert came is not None
        assert (came.code, came.what, came.where, came.next) == (
            refused.code,
            refused.what,
            refused.where,
            refused.next,
        )
    assert refusal_in(["error: update failed", "a line [of_no_code]"]) is None


def test_of_several_refusals_the_first_is_the_error_and_the_others_its_cause() -> None:
    both = [told(GrafosError("cloud_auth", "who are you?")), told(GrafosError("stack_busy", "it is another's"))]
    came = refusal_in(both)
    assert came is not None
    assert (came.code, came.why) == ("cloud_auth", "it is another's")


def test_what_is_changed_is_told_and_what_stays_is_not() -> None:
    steps: list[Step] = []
    heard = Heard(steps.append)
    machine = "urn:pulumi:dev::grafos-cloud::grafos:cell:Cell$grafos:cell:Machine::build-machine"
    for event in (
        _event(resource_pre_event=_about("create", machine)),
        _event(res_outputs_event=_about("create", machine)),
        _event(resource_pre_event=_about("same", machine)),
        _event(
            resource_pre_event=_about("create", "urn:pulumi:dev::p::pulumi:pulumi:Stack::it", "pulumi:pulumi:Stack")
        ),
    ):
        heard(event)
    assert [(step.name, step.state, step.note) for step in steps] == [
        ("build-machine", "begun", "make"),
        ("build-machine", "done", "make"),
    ]


def _about(op: str, urn: str, type_: str = "grafos:cell:Machine") -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(op=op, urn=urn, type=type_))


def _event(**fields: Any) -> EngineEvent:
    return EngineEvent(sequence=1, timestamp=0, **fields)
