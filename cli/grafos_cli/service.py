"""`grafos service`: modules that serve, on as many cells as they have replicas, and the way to them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_scheduler.service_messages import ServiceView
    from grafos_scheduler.services_client import ServicesClient

app = new_group(
    help="Services: modules that listen, kept alive on as many cells as they have replicas.",
    examples=("grafos service deploy --provider local", "grafos service open echo", "grafos service ls"),
    next="grafos service ls",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="as service ls prints it")]
OneInstance = Annotated[str, typer.Option(metavar="ID", help="of this instance, as service show prints it")]


@app.command(
    "deploy",
    cls=taught(
        examples=(
            "grafos service deploy --provider local",
            "grafos service deploy my-program --name echo --provider local --json",
        ),
        next="grafos service open NAME",
    ),
)
def deploy(
    ctx: typer.Context,
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="a folder with grafos.toml; default: the one here")
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="which of its services; default: all of them")] = "",
    provider: Annotated[str, typer.Option(metavar="NAME", help="whose scheduler is asked; default: local")] = "local",
    replicas: Annotated[
        int, typer.Option(metavar="N", min=0, max=32, help="other than in grafos.toml; 0 leaves that")
    ] = 0,
) -> None:
    """Deploys the services of a program, built before; another spec cuts one instance over after the other.

    Waits until as many instances listen as were asked for, or one of them says why it does not.
    """
    from grafos_cli import service_calls, service_view
    from grafos_cli.fabric import open_default
    from grafos_cli.manifest import load_program
    from grafos_cli.project import program_folder, project_folder

    terminal = terminal_of(ctx)
    specs = service_calls.specs_of(load_program(program_folder(program)), name, replicas)
    views = service_calls.deploy(specs, provider, open_default(terminal), project_folder(), terminal)
    terminal.emit({"services": service_view.documents(views)}, service_view.listed(views, terminal))


@app.command(
    "ls",
    cls=taught(
        examples=("grafos service ls", "grafos service ls --json | jq -r '.services[].name'"),
        next="grafos service show NAME",
        streams="services",
    ),
)
def ls(ctx: typer.Context) -> None:
    """Lists services with how many of their replicas are healthy."""
    from grafos_cli import service_calls, service_view
    from grafos_cli.everywhere import everywhere

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    views = service_calls.gather(around)
    document = {"services": service_view.documents(views), "silent": around.documents()}
    terminal.emit(document, service_view.listed(views, terminal))


@app.command(
    "show",
    cls=taught(
        examples=("grafos service show echo", "grafos service show echo --json | jq .service.generation"),
        next="grafos service open NAME",
    ),
)
def show(ctx: typer.Context, name: Name) -> None:
    """Shows one service: its instances, on which cells, and why one is not there."""
    from grafos_cli import service_view

    terminal = terminal_of(ctx)
    with _of(ctx, name) as client:
        view = client.service(name)
    terminal.emit(service_view.document(view), service_view.shown(view, terminal))


@app.command(
    "scale",
    cls=taught(
        examples=("grafos service scale echo 3", "grafos service scale echo 1 --json"),
        next="grafos service show NAME",
    ),
)
def scale(
    ctx: typer.Context,
    name: Name,
    replicas: Annotated[int, typer.Argument(metavar="N", min=1, max=32, help="replicas, each on a cell of its own")],
) -> None:
    """Has a service have so many replicas; those that are too many drain, and end with their sessions."""
    with _of(ctx, name) as client:
        _told(ctx, client.scale_service(name, replicas))


@app.command(
    "cutover",
    cls=taught(
        examples=("grafos service cutover echo", "grafos service cutover echo --instance-id ID"),
        next="grafos service show NAME",
    ),
)
def cutover(ctx: typer.Context, name: Name, instance_id: OneInstance = "") -> None:
    """Replaces instances as planned, one after the other: drain, revoke, replace. No session is cut before its drain
    deadline."""
    with _of(ctx, name) as client:
        _told(ctx, client.cut_over_service(name, instance_id))


@app.command(
    "failover",
    cls=taught(
        examples=("grafos service failover echo --instance-id ID", "grafos service failover echo --json"),
        next="grafos service show NAME",
    ),
)
def failover(ctx: typer.Context, name: Name, instance_id: OneInstance = "") -> None:
    """Fences an instance at once, with all its sessions; another takes its place when its end is sure."""
    with _of(ctx, name) as client:
        _told(ctx, client.fail_over_service(name, instance_id))


@app.command(
    "rm",
    cls=taught(examples=("grafos service rm echo", "grafos service rm echo --now"), next="grafos service ls"),
)
def rm(
    ctx: typer.Context,
    name: Name,
    *,
    now: Annotated[bool, typer.Option("--now", help="without waiting for its sessions")] = False,
) -> None:
    """Removes a service: its instances drain, or end at once, and their leases are torn down.

    Asking again is harmless while it drains. Once it is gone its name is nobody's, and asking is service_unknown.
    """
    with _of(ctx, name) as client:
        _told(ctx, client.remove_service(name, at_once=now))


@app.command(
    "logs",
    cls=taught(
        examples=("grafos service logs echo", "grafos service logs echo --json"), next="grafos service show NAME"
    ),
)
def logs(ctx: typer.Context, name: Name) -> None:
    """Prints what instances that have ended left of their logs, the newest last."""
    import msgspec

    terminal = terminal_of(ctx)
    with _of(ctx, name) as client:
        left = client.service_logs(name)
    text = "".join(f"--- {one.instance_id} on {one.cell_id}: {one.code or 'ended'}\n{one.log}\n" for one in left)
    terminal.emit({"logs": msgspec.to_builtins(left)}, text or "No instance of it has ended yet.\n")


@app.command(
    "open",
    cls=taught(
        examples=("grafos service open echo", "grafos service open web --port 8080"),
        next="grafos service show NAME",
    ),
)
def open_(
    ctx: typer.Context,
    name: Name,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="of this machine; default: a free one")
    ] = 0,
) -> None:
    """Lets programs of this machine reach a service by a local address, until Ctrl-C.

    Each connection is a session with a healthy instance, on whatever cell it is; only this machine can connect. What
    goes over it is up to the service: the URL is for one that speaks HTTP, any other is reached at the address in it.
    """
    from grafos_cli.following import until_stopped
    from grafos_cli.service_open import serve

    terminal = terminal_of(ctx)
    with _of(ctx, name) as client:
        door = client.door
    with until_stopped(terminal, f"stopped; {name} goes on, and is not reached by that address any more"):
        serve(door, name, port, terminal)


def _of(ctx: typer.Context, name: str) -> ServicesClient:
    """The client of the scheduler that has the service."""
    from grafos_cli import service_calls
    from grafos_cli.everywhere import everywhere

    return service_calls.find(everywhere(terminal_of(ctx)), name)


def _told(ctx: typer.Context, view: ServiceView) -> None:
    from grafos_cli import service_view

    terminal = terminal_of(ctx)
    terminal.emit(service_view.document(view), service_view.shown(view, terminal))
