"""Draws who takes part in a story, and what becomes of the services in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_scheduler import service_instances
from grafos_scheduler.region_messages import RegionRequest
from grafos_scheduler.service_messages import (
    ActiveActive,
    ResourceRequirement,
    ServiceSpec,
)
from grafos_testkit.people import MIB, MODULE_SHA256, Person, RunClient, a_run
from grafos_testkit.processes import PROVIDER
from grafos_testkit.wishes import Graph, ProgramClient, RegionClient, ServiceClient, Visitor

if TYPE_CHECKING:
    from grafos_testkit.world import World

GRAPHS: tuple[Graph, ...] = (
    {"one": (), "two": ("one",)},
    {"split": (), "left": ("split",), "right": ("split",), "join": ("left", "right")},
)
PORTS = (8080, 8081)
"""So few that services get in each other's way."""
CHANGES_MIND_S = 9.0
"""About how often the owner of a service wants something else of it."""


def cast(world: World) -> list[Person]:
    """Everybody of the scene who wants something."""
    scene, people = world.scene, list[Person]()
    for number in range(scene.clients):
        tenant = world.chance.choice(scene.tenants)
        people.append(RunClient(world, f"client {number}", tenant, a_run(world, f"run-key-number-{number:04d}")))
    for number in range(scene.programs):
        tenant, key = world.chance.choice(scene.tenants), f"program-key-{number:04d}"
        graph = world.chance.choice(GRAPHS)
        hold = world.chance.choice([100_000, 2_000_000])
        task = replace(a_run(world, key), deadline_s=world.chance.choice([1.0, 3.0, 10.0]))
        program = ProgramClient(world, f"program {number}", tenant, key, graph, task, hold)
        program.is_impatient = world.chance.random() < 0.5
        people.append(program)
    people += [_region(world, number) for number in range(scene.regions)]
    people += [_service(world, number) for number in range(scene.services)]
    return people


def visitors(world: World, people: list[Person]) -> list[Visitor]:
    """Of each service some."""
    services = [person for person in people if isinstance(person, ServiceClient)]
    return [Visitor(world, f"visitor of {each.key}", each.tenant, each.spec.name) for each in services]


def _region(world: World, number: int) -> RegionClient:
    chance = world.chance
    tenant, key = chance.choice(world.scene.tenants), f"region-key-number-{number:04d}"
    request = RegionRequest(key, PROVIDER, chance.choice([4096, 65536, MIB]), chance.choice([10.0, 25.0, 60.0]))
    renewals, ends = chance.choice([0, 0, 1, 3]), chance.random() < 0.3
    client = RegionClient(world, f"region {number}", tenant, request, renewals=renewals, ends=ends)
    if chance.random() < 0.5:
        client.renews_late, client.renewals_left = True, min(1, renewals)
    return client


def _service(world: World, number: int) -> FickleOwner:
    chance = world.chance
    spec = ServiceSpec(
        name=f"service-{number}",
        module_hash=MODULE_SHA256,
        listener_port=chance.choice(PORTS),
        replication=ActiveActive(chance.randint(1, 3)),
        resources_per_instance=(ResourceRequirement("cpu", 1), ResourceRequirement("mem", 65536)),
        max_sessions=chance.choice([1, 8]),
        drain_deadline_s=chance.choice([1.0, 5.0, 20.0]),
    )
    return FickleOwner(world, f"owner of service-{number}", chance.choice(world.scene.tenants), spec)


class FickleOwner(ServiceClient):
    """Changes a service again and again while the storm lasts, and has it removed afterwards."""

    def begin(self) -> None:
        super().begin()
        self.world.later(self.world.chance.uniform(0.2, 2.0) * CHANGES_MIND_S, "", self._change)

    def _change(self) -> None:
        world, chance = self.world, self.world.chance
        if self.over:
            return
        world.later(chance.uniform(0.2, 2.0) * CHANGES_MIND_S, "", self._change)
        if not world.stormy:
            if not self.is_removing:
                self.remove(at_once=chance.random() < 0.3)
            return
        if self.view is None or self.asked or self.is_removing:
            return
        whim = chance.random()
        if whim < 0.3:
            self.scale(chance.randint(1, 3))
        elif whim < 0.5:
            self.deploy(replace(self.spec, version=f"0.{chance.randint(1, 99)}.0"))
        elif whim < 0.7:
            self.cut_over(self._some_instance())
        elif whim < 0.9:
            self.fail_over(self._some_instance())
        elif whim < 0.95:
            self.remove(at_once=chance.random() < 0.5)

    def _some_instance(self) -> str:
        """One that it was shown; it may have ended since."""
        there = [each.instance_id for each in self.instances if each.state != service_instances.FENCED]
        return self.world.chance.choice(there) if there else ""
