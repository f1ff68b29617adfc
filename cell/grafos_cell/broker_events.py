"""What can happen to a cell's broker, and what its decisions come to (see ``broker``)."""

from __future__ import annotations

from dataclasses import dataclass

from grafos_core.changes import Batch
from grafos_scheduler import frames
from grafos_scheduler.service_frames import (
    DrainInstance,
    InstanceEnded,
    InstanceEndedNoted,
    StartInstance,
    StopInstance,
)

ForInstances = StartInstance | DrainInstance | StopInstance | InstanceEndedNoted
ForBroker = (
    frames.GrantLease
    | frames.StartRun
    | frames.TearDownLease
    | frames.RevokeLease
    | frames.ClearFence
    | frames.RunEndedNoted
    | ForInstances
)
"""The frames of the scheduler that the broker decides upon."""

# --- what happens ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booted:
    """The daemon started. The first event of each process, before any link."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The scheduler said welcome: everything that it has not noted yet is reported."""


@dataclass(frozen=True, slots=True)
class Told:
    """A frame of the scheduler for the broker."""

    frame: ForBroker


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """The run's worker is done, or gone. ``code`` is "finished" or an error code."""

    run_id: str
    code: str
    what: str = ""
    fuel_used: int = 0
    response_json: str = ""
    output: bytes = b""
    log: str = ""


@dataclass(frozen=True, slots=True)
class InstanceOver:
    """The instance's process is done, or gone, and all its sessions have ended. ``code`` is "finished" or an error
    code."""

    instance_id: str
    code: str
    what: str = ""
    fuel_used: int = 0
    sessions_served: int = 0
    log: str = ""


@dataclass(frozen=True, slots=True)
class Unbound:
    """How taking a binding down went. ``gone`` false: it could not be taken down."""

    lease_id: str
    generation: int
    gone: bool = True


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; to be sent at least every second, connected or not."""


Event = Booted | LinkUp | Told | WorkerEnded | InstanceOver | Unbound | Tick

Reportable = (
    frames.LeaseGranted
    | frames.LeaseRefused
    | frames.LeaseTornDown
    | frames.LeaseRevoked
    | frames.RunStarted
    | frames.RunEnded
    | InstanceEnded
)


# --- what is to be done ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """Send the frame, if a link is up. If not, drop it: ``LinkUp`` and the scheduler's questions bring it again."""

    frame: Reportable


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Fetch module and input, and run; answer with ``WorkerEnded``, whatever happens."""

    start: frames.StartRun


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Kill the run's worker; ``WorkerEnded`` follows."""

    run_id: str


@dataclass(frozen=True, slots=True)
class StartServing:
    """Fetch the module, and serve; answer with ``InstanceOver``, whatever happens."""

    start: StartInstance


@dataclass(frozen=True, slots=True)
class DrainServing:
    """No new session for the instance; ``InstanceOver`` follows when it is done."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class TellServing:
    """Say again how far the instance has come, if it goes."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class StopServing:
    """End all sessions of the instance with this code and kill its process; ``InstanceOver`` follows."""

    instance_id: str
    code: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """The lease goes on under its run or instance, in a new generation: from here on the run presents this token."""

    run_id: str
    lease_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Unbind:
    """Take the binding down for good (the core, the memory, the file); answer with ``Unbound``. May come twice."""

    lease_id: str
    generation: int
    kind: str


Effect = Report | StartWorker | StopWorker | StartServing | DrainServing | StopServing | TellServing | Unbind


@dataclass(frozen=True, slots=True)
class Decision:
    """``batch`` must be durable before any of ``effects`` is carried out. ``renewed`` is handed on with the batch to
    memory, against which tokens are checked: no use of a lease falls between the old token and the new one, and a
    crash that loses the renewal takes the run along."""

    batch: Batch = ()
    effects: tuple[Effect, ...] = ()
    renewed: tuple[Renewed, ...] = ()
