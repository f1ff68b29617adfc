"""The capability broker: the cell's own mind about its leases, decided purely, an event at a time.

    decision = decide(state, event, clock.now())     # pure
    state.apply(decision.batch)                       # and hand on decision.renewed
    commit decision.batch to the cell's disk          # durable
    ...only now carry out decision.effects, in order

The broker is the last word on its cell, whoever asks for what. It leases out no more than the cell has; for each lease
its generation only grows, and nothing granted or minted under an older one, or before the daemon's last start, is
honoured; every token is checked against all of that at the very use. A lease ends at its time by the cell's own clock,
with nobody told and nobody asked, and takes a run that still stands on it along:

    (none) --grant--> bound --expiry, revoked, teardown--> closing --binding gone--> closed --expiry--> (forgotten)
                        |                                   |   ^ `--could not be taken down--> fenced (out of use
                        `--renewed: next generation--> bound    `-------------operator clears it---'

A run is durable here before its worker starts, so the same run never starts twice; its end is durable before it is
reported, and kept until the scheduler has noted it. A daemon that starts again ends the runs that were going. All of
this is so for the instances of services, too.
"""

from __future__ import annotations

from typing import assert_never

from grafos_cell import broker_instances, broker_leases, broker_runs, holdings
from grafos_cell.broker_draft import Draft
from grafos_cell.broker_events import (
    Booted,
    Decision,
    Event,
    InstanceOver,
    LinkUp,
    Tick,
    Told,
    Unbound,
    WorkerEnded,
)
from grafos_cell.holdings import GOING, BrokerState
from grafos_scheduler import frames
from grafos_scheduler.service_frames import DrainInstance, InstanceEndedNoted, StartInstance, StopInstance


def decide(state: BrokerState, event: Event, now: float) -> Decision:
    """What ``event`` comes to at ``now`` (Unix seconds). Changes nothing, and never refuses: refusals are reports."""
    draft = Draft(state, now)
    match event:
        case Told():
            _told(draft, event)
        case WorkerEnded():
            broker_runs.worker_ended(draft, event)
        case InstanceOver():
            broker_instances.over(draft, event)
        case Unbound():
            broker_leases.unbound(draft, event)
        case Tick():
            _tick(draft)
        case LinkUp():
            for run in state.runs.values():
                if run.ended is not None:
                    draft.report(run.ended)
            broker_instances.link_up(draft)
        case Booted():
            _booted(draft)
        case _:
            assert_never(event)
    return draft.decision()


def hello(state: BrokerState, agent_version: str) -> frames.Hello:
    """What the cell says of itself when it opens a link."""
    return frames.Hello(
        cell_id=state.settings.cell_id,
        boot_epoch=state.epoch,
        agent_version=agent_version,
        unacknowledged=state.unacknowledged,
        fenced=state.fenced,
    )


def heartbeat(state: BrokerState) -> frames.Heartbeat:
    """What the cell says at every beat."""
    return frames.Heartbeat(leased=state.leased, fenced=state.fenced)


def _told(draft: Draft, event: Told) -> None:
    frame = event.frame
    match frame:
        case frames.GrantLease():
            broker_leases.grant(draft, frame)
        case frames.StartRun():
            broker_runs.start(draft, frame)
        case frames.TearDownLease():
            broker_leases.tear_down(draft, frame)
        case frames.RevokeLease():
            broker_leases.revoke(draft, frame)
        case frames.ClearFence():
            broker_leases.clear_fence(draft, frame)
        case frames.RunEndedNoted():
            broker_runs.noted(draft, frame)
        case StartInstance() | DrainInstance() | StopInstance() | InstanceEndedNoted():
            broker_instances.told(draft, frame)
        case _:
            assert_never(frame)


def _booted(draft: Draft) -> None:
    """The next epoch; workers died with the process that had them."""
    draft.put_boot(holdings.Boot(draft.state.epoch + 1))
    broker_leases.booted(draft)
    for run in draft.state.runs.values():
        if run.state == GOING:
            # Nobody saw how long it really ran, so the receipt shows no time, and it costs its tenant nothing.
            lost = WorkerEnded(run.run_id, "cell_lost", "the cell's daemon restarted while the run was going")
            broker_runs.end(draft, run, lost, ended_at=run.started_at)
    broker_instances.booted(draft)


def _tick(draft: Draft) -> None:
    broker_leases.tick(draft)
    for run_id in draft.state.runs:
        run = draft.runs[run_id]
        if run.state == GOING and run.stop_at <= draft.now:
            broker_runs.stop(draft, run, "deadline_exceeded")
    broker_instances.tick(draft)
