"""``SimFabric``: a whole fabric for a test to play with, under one seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from grafos_core.audit_chain import AuditRecord
from grafos_core.errors import GrafosError
from grafos_core.ledger import Account
from grafos_core.money import MICRO_CENTS_PER_CENT
from grafos_core.resources import Resources
from grafos_scheduler import messages, rows
from grafos_scheduler.region_messages import RegionRequest
from grafos_scheduler.service_messages import ActiveActive, ResourceRequirement, ServiceSpec
from grafos_testkit.people import INPUT_SHA256, MODULE_SHA256, Person, RunClient
from grafos_testkit.processes import PROVIDER, Process
from grafos_testkit.scenes import CALM, THREE_TENANTS, Faults, Scene
from grafos_testkit.wishes import Graph, ProgramClient, RegionClient, ServiceClient, Visitor
from grafos_testkit.world import CALM_S, Step, World

if TYPE_CHECKING:
    from grafos_cell.holdings import BrokerState
    from grafos_scheduler.events import Event
    from grafos_scheduler.state import State
    from grafos_testkit.cells import CellProcess
    from grafos_testkit.transitions import Transitions

Wanting = TypeVar("Wanting", bound=Person)
BUDGET_CENTS = 400.0
ROOMY = Resources(cpu_cores=4, mem_bytes=64 << 20, block_bytes=64 << 20)
"""Of a cell, where the test does not say."""
CELLS = 4
SCHEDULER = "scheduler"
"""How the scheduler's process is called; the cells are ``cell-0`` and so on."""
WITHIN_S = 300.0
Asked = TypeVar("Asked", bound=msgspec.Struct)


class SimFabric:
    """A scheduler, cells and people in one process, under a virtual clock; everything follows from ``seed``.

    ``tenants`` maps each to its budget in cents. ``faults`` is how rough the world is by itself, beside what the test
    does to it. Each cell has ``total`` to lease. ``orchestrated``: the cells enrol with tokens, as at an orchestrator.
    ``well_behaved``: no program fails or hangs by itself. What must be true is checked at each step: an
    ``InvariantError`` names seed and step.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        cells: int = CELLS,
        tenants: Mapping[str, float] | None = None,
        faults: Faults = CALM,
        total: Resources = ROOMY,
        orchestrated: bool = False,
        well_behaved: bool = True,
    ) -> None:
        budgets = dict.fromkeys(THREE_TENANTS, BUDGET_CENTS) if tenants is None else dict(tenants)
        if cells < 1 or not budgets:
            raise GrafosError("request_invalid", "a fabric has a cell and a tenant at least")
        held = tuple((name, round(cents * MICRO_CENTS_PER_CENT)) for name, cents in budgets.items())
        scene = Scene(
            cells,
            clients=0,
            budget_micro_cents=0,
            joins=orchestrated,
            well_behaved=well_behaved,
            tenants=tuple(budgets),
            budgets=held,
            total=total,
        )
        self._world = World(seed, scene, faults)
        self._asked = 0
        self._world.checked(self._world.begin)

    # --- time ---

    def step(self) -> Step:
        """Goes on to the next committed state change, and gives it."""
        before = self._world.commits
        while self._world.commits == before:
            self._world.advance()
        return self._world.newest

    def run(self, seconds: float) -> None:
        """Lets so much time pass."""
        self._world.advance_to(self._world.elapsed + seconds)

    def run_until(self, what: Callable[[], object], within_s: float = WITHIN_S) -> None:
        """Goes on until ``what()`` is true; ``deadline_exceeded`` if that does not come within so many seconds."""
        until = self._world.elapsed + within_s
        while not what():
            if self._world.elapsed >= until:
                raise GrafosError("deadline_exceeded", f"it did not come to pass within {within_s:g} s")
            self._world.advance()

    def settle(self) -> None:
        """Ends the storm and all that was done to the fabric, removes the services, ends the regions, and lets
        everything come to its end; then nothing may be left: no hold, no lease but a fenced one, nobody untold."""
        world = self._world
        world.end_the_storm()
        for process in self._processes():
            process.disk.broken = False
            process.is_held_down = False
            world.checked(process.begin)
        self.heal()
        for person in world.people:
            if isinstance(person, ServiceClient) and not person.over:
                person.remove()
            elif isinstance(person, RegionClient):
                person.end()
        world.advance_to(world.elapsed + CALM_S)
        world.checked(world.ghost.check_all_is_over)

    # --- what people want ---

    def submit(self, tenant: str, **fields: object) -> RunClient:
        """A tenant wants a run; ``fields`` are those of ``messages.RunRequest``. Ask what it gives for ``view``."""
        key = self._key("run")
        request = _with(_A_RUN, {"run_key": key} | fields)
        return self._begun(RunClient(self._world, f"{tenant} {key}", self._known(tenant), request))

    def submit_program(self, tenant: str, graph: Graph, *, hold_cents: float = 1.0, **fields: object) -> ProgramClient:
        """A tenant wants a whole program: ``graph`` tells which tasklets each tasklet needs, ``hold_cents`` is held
        for all of them, ``fields`` are those of each run."""
        key = self._key("program")
        unknown = {needed for needs in graph.values() for needed in needs} - set(graph)
        if unknown or not graph:
            raise GrafosError("request_invalid", f"the program has no tasklet {', '.join(sorted(unknown)) or 'at all'}")
        request, hold = _with(_A_RUN, {"run_key": key} | fields), round(hold_cents * MICRO_CENTS_PER_CENT)
        name, tenant = f"{tenant} {key}", self._known(tenant)
        return self._begun(ProgramClient(self._world, name, tenant, key, graph, request, hold))

    def lease_region(self, tenant: str, size_bytes: int, ttl_s: float, cell_id: str = "") -> RegionClient:
        """A tenant wants a shared region."""
        key = self._key("region")
        request = _with(RegionRequest(key, PROVIDER, size_bytes, ttl_s, cell_id), {})
        return self._begun(RegionClient(self._world, f"{tenant} {key}", self._known(tenant), request, ends=False))

    def deploy(self, tenant: str, name: str, replicas: int = 1, **fields: object) -> ServiceClient:
        """A tenant wants a service; ``fields`` are those of ``service_messages.ServiceSpec``."""
        spec = _with(_A_SERVICE, {"name": name, "replication": ActiveActive(replicas)} | fields)
        return self._begun(ServiceClient(self._world, f"owner of {name}", self._known(tenant), spec))

    def visit(self, service: ServiceClient) -> Visitor:
        """A client that opens session after session with the service, and counts its answers and its failures."""
        visitor = Visitor(self._world, f"visitor of {service.key}", service.tenant, service.spec.name)
        visitor.begin()
        return visitor

    def tell(self, event: Event) -> None:
        """Any event, as if an operator had asked for it just now; a ``GrafosError`` refuses it."""
        scheduler = self._world.scheduler
        if not scheduler.alive:
            raise GrafosError("scheduler_unreachable", "the simulated scheduler is down")
        scheduler.handle(event)

    # --- what is done to it ---

    def partition(self, *cells: str) -> None:
        """Nothing gets from these cells to the scheduler or back, until they are healed."""
        for cell in self._cells(cells):
            self._world.checked(lambda cell=cell: cell.cut_off(math.inf))  # type: ignore[misc]

    def heal(self, *cells: str) -> None:
        """Opens the way again; of all cells where none is named."""
        for cell in self._cells(cells):
            cell.cut_off_until = 0.0

    def kill(self, process: str) -> None:
        """The process is gone with all that it had in memory, until ``restart``."""
        found = self._process(process)
        found.is_held_down = True
        if found.alive:
            self._world.say(f"KILL {process}")
            self._world.checked(found.die)

    def restart(self, process: str) -> None:
        """Starts a process that was killed, from its disk."""
        found = self._process(process)
        found.is_held_down = False
        self._world.checked(found.begin)

    def skew(self, cell: str, seconds: float) -> None:
        """Sets the clock of the cell ahead of everybody else's (behind: negative). Beyond ``clock_skew_max_s`` nothing
        is promised of who serves."""
        [found] = self._cells((cell,))
        self._world.checked(lambda: found.skew(seconds))

    def fail_disk(self, process: str) -> None:
        """From now on the disk takes nothing; the process ends with its next change, and with each new start."""
        self._process(process).disk.broken = True

    def mend_disk(self, process: str) -> None:
        self._process(process).disk.broken = False

    # --- what can be seen ---

    @property
    def state(self) -> State:
        """The scheduler's state, as it has it in memory."""
        return self._world.scheduler.state

    def cell(self, name: str) -> BrokerState:
        """What the cell holds, as its broker has it in memory."""
        [found] = self._cells((name,))
        return found.state

    @property
    def cell_ids(self) -> list[str]:
        return [cell.name for cell in self._world.cells]

    @property
    def audit(self) -> list[AuditRecord]:
        """All records of the scheduler's audit log: what happened, as an operator sees it."""
        return [record for _, record in self._world.scheduler.disk.read_from(rows.AUDIT, "", self.steps + 1_000_000)]

    @property
    def trace(self) -> list[str]:
        """Every frame, kill and answer so far, a line each, with the second."""
        return list(self._world.trace)

    @property
    def trace_sha256(self) -> str:
        """Over the trace and every row that was committed: the same for the same seed and the same calls."""
        return self._world.trace_sha256

    @property
    def steps(self) -> int:
        """The committed state changes so far."""
        return self._world.commits

    @property
    def elapsed_s(self) -> float:
        return self._world.elapsed

    @property
    def transitions(self) -> Transitions:
        """Which rows of the transition tables were taken so far, and how often."""
        return self._world.transitions

    def spent_micro_cents(self, tenant: str) -> int:
        """What the tenant's runs, regions and services have cost so far."""
        return self._account(tenant).spent_micro_cents

    def held_micro_cents(self, tenant: str) -> int:
        return self._account(tenant).held_micro_cents

    # --- inside ---

    def _account(self, tenant: str) -> Account:
        return self.state.ledger.account(f"slice-{self._known(tenant)}")

    def _begun(self, person: Wanting) -> Wanting:
        self._world.people.append(person)
        self._world.later(0.0, "", person.ask)
        return person

    def _key(self, what: str) -> str:
        self._asked += 1
        return f"{what}-key-number-{self._asked:06d}"

    def _known(self, tenant: str) -> str:
        if tenant not in self._world.scene.tenants:
            raise GrafosError("tenant_unknown", f"the fabric has no tenant {tenant!r}")
        return tenant

    def _processes(self) -> list[Process]:
        return [self._world.scheduler, *self._world.cells]

    def _process(self, name: str) -> Process:
        found = {process.name: process for process in self._processes()}
        if name not in found:
            raise GrafosError("not_found", f"the fabric has no process {name!r}", why=f"it has {', '.join(found)}")
        return found[name]

    def _cells(self, names: tuple[str, ...]) -> list[CellProcess]:
        there = {cell.name: cell for cell in self._world.cells}
        unknown = [name for name in names if name not in there]
        if unknown:
            what = f"the fabric has no cell {unknown[0]!r}"
            raise GrafosError("cell_unknown", what, why=f"it has {', '.join(there)}")
        return [there[name] for name in names or there]


def _with(default: Asked, fields: dict[str, Any]) -> Asked:
    """What is asked for, checked as it is where it enters a scheduler."""
    try:
        changed = msgspec.structs.replace(default, **fields)
        return msgspec.convert(msgspec.to_builtins(changed), type(default))
    except (TypeError, msgspec.ValidationError) as error:
        raise GrafosError("request_invalid", f"that cannot be asked for: {error}") from error


_A_RUN = messages.RunRequest(
    run_key="-",
    provider=PROVIDER,
    program="program",
    tasklet="main",
    module_sha256=MODULE_SHA256,
    input_sha256=INPUT_SHA256,
    deadline_s=10.0,
)
_A_SERVICE = ServiceSpec(
    name="-",
    module_hash=MODULE_SHA256,
    listener_port=8080,
    resources_per_instance=(ResourceRequirement("cpu", 1), ResourceRequirement("mem", 65536)),
    drain_deadline_s=5.0,
)
