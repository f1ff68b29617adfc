"""Services from where they are: which scheduler has them, and what a program says of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_cli.building import built_module
from grafos_cli.everywhere import Everywhere
from grafos_cli.interrupts import resumable
from grafos_cli.manifest import Program
from grafos_cli.reach import Reach, resolve
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.ids import sha256_of
from grafos_scheduler.service_messages import ActiveActive, ServiceSpec, ServiceView
from grafos_scheduler.services_client import ServicesClient

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

LISTEN_WITHIN_S = 60.0
"""What the instances of a deployed service get to listen, before somebody is told that they do not yet."""
LOOK_EVERY_S = 0.3
RESTARTS_TOLD = 2
"""After so many crashes in a row nobody waits for it any more."""


def specs_of(program: Program, name: str, replicas: int) -> list[tuple[ServiceSpec, bytes]]:
    """The specs of the program's services, or of the named one, each with its built module; ``usage``, and
    ``build_stale`` for one that has to be built first."""
    names = [service.name for service in program.services]
    chosen = [service for service in program.services if name in ("", service.name)]
    if not chosen:
        what = f"{program.name} has no service {name!r}" if name else f"{program.name} declares no services"
        if names:
            raise GrafosError(
                "usage", what, why=f"it has {', '.join(names)}", next="name one of these, or leave it out"
            )
        raise GrafosError("usage", what, next="add a [[services]] to grafos.toml")
    found = []
    for service in chosen:
        _, module = built_module(program, program.tasklet(service.tasklet))
        spec = replace(service.spec, module_hash=sha256_of(module), program=program.name, version=program.version)
        found.append((replace(spec, replication=ActiveActive(replicas)) if replicas else spec, module))
    return found


def deploy(
    specs: Sequence[tuple[ServiceSpec, bytes]], provider: str, fabric: Fabric, project: Path, terminal: Terminal
) -> list[ServiceView]:
    """Deploys each at the scheduler for ``provider``, and waits until they serve; the error of the first that cannot be
    deployed, or that does not come up, says what became of the others."""
    deployed: list[str] = []
    with resolve(provider, fabric, project).services() as client:
        for spec, module in specs:
            with _said_of_others("deployed before it", deployed):
                client.put_blob(module)
                client.deploy_service(spec)
            deployed.append(spec.name)
            terminal.note(f"{spec.name} is deployed; waiting until {spec.replica_count} of it listen")
        names = ", ".join(deployed)
        with resumable(f"Stopped before all of them listened; deployed: {names}", "grafos service ls"):
            return _until_they_serve(client, deployed)


def _until_they_serve(client: ServicesClient, names: Sequence[str]) -> list[ServiceView]:
    views, failures = [], []
    for name in names:
        try:
            views.append(_until_it_serves(client, name))
        except GrafosError as error:
            failures.append(error)
    if failures:
        with _said_of_others("these serve", [view.name for view in views]):
            raise failures[0]
    return views


@contextlib.contextmanager
def _said_of_others(words: str, names: Sequence[str]) -> Iterator[None]:
    """Inside, an error says what became of the others, if there are any."""
    try:
        yield
    except GrafosError as error:
        if names:
            error.why = "; ".join(filter(None, (error.why, f"{words}: {', '.join(names)}")))
        raise


def find(around: Everywhere, name: str) -> ServicesClient:
    """A client of the scheduler that has the service, to close when done; ``service_unknown``."""

    def its_client(reach: Reach) -> ServicesClient:
        client = reach.services()
        try:
            client.service(name)
        except BaseException:
            client.close()
            raise
        return client

    for _, client in around.ask(its_client, "service_unknown", "not_found"):
        return client
    what = f"There is no service {name[:80]!r} in this fabric"
    raise around.unless_silent(GrafosError("service_unknown", what, next="grafos service ls"))


def gather(around: Everywhere) -> list[ServiceView]:
    """As ``services_that_answer``, by name; why one does not answer, if none are found."""
    found = services_that_answer(around)
    around.check_list(found)
    return sorted(found, key=lambda view: view.name)


def services_that_answer(around: Everywhere) -> list[ServiceView]:
    """The services of every scheduler of the fabric that answers."""

    def services_of(reach: Reach) -> list[ServiceView]:
        with reach.services() as client:
            return client.services()

    return [view for _, views in around.ask(services_of, "not_found") for view in views]


def _until_it_serves(client: ServicesClient, name: str) -> ServiceView:
    """The service once all its replicas are healthy; the error of one that does not come up."""
    ends_at = time.monotonic() + LISTEN_WITHIN_S
    while True:
        view = client.service(name)
        wanted = view.spec.replica_count
        current = [each for each in view.instances if each.revision == view.revision]
        if view.healthy >= wanted and len(current) >= wanted:
            return view
        crashed = next((each for each in view.ended if each.restarts >= RESTARTS_TOLD), None)
        if crashed is not None and crashed.revision == view.revision:
            raise GrafosError(
                "service_not_listening",
                f"An instance of {name} ends again and again: {crashed.code}: {crashed.what}"[:500],
                where=f"instance {crashed.instance_id} on cell {crashed.cell_id}",
                next=f"grafos service logs {name}",
            )
        if time.monotonic() >= ends_at:
            raise GrafosError(
                "service_not_listening",
                f"{view.healthy} of {wanted} instances of {name} listen after {LISTEN_WITHIN_S:g} s",
                why="; ".join(view.waiting.values())[:500],
                next=f"grafos service show {name}",
            )
        time.sleep(LOOK_EVERY_S)
