"""`grafos admin`: the tenants of the orchestrator, what each may lease at once, and what it may spend in all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.reach import Reach
    from grafos_cli.terminal import Terminal
    from grafos_core.resources import Resources
    from grafos_scheduler.messages import TenantView
    from grafos_scheduler.orchestrator_client import OrchestratorClient
    from grafos_stacks.orchestrators import OrchestratorHome

CENTS_MAX = 100_000_000
"""As an orchestrator takes it: a million dollars."""
CLEARED_WITHIN_S = 60.0
"""A cell that is connected says within a second that a lease is gone; one that is silent keeps an instance's for 30."""
LOOK_EVERY_S = 0.2
CREATE = taught(
    examples=("grafos admin create-tenant --tenant acme", "grafos admin create-tenant --tenant acme --cents 5000"),
    next="grafos admin list-tenants",
)
LIST = taught(
    examples=("grafos admin list-tenants", "grafos admin list-tenants --json | jq '.tenants[].spent_micro_cents'"),
    next="grafos admin set-tenant-budget --tenant default --cents 5000",
    streams="tenants",
)
QUOTA = taught(
    examples=(
        "grafos admin set-quota --tenant acme --cpu-cores 8",
        "grafos admin set-quota --tenant acme --mem 1g --block 10g",
    ),
    next="grafos admin list-tenants",
)
BUDGET = taught(
    examples=(
        "grafos admin set-tenant-budget --tenant default --cents 5000",
        "grafos admin set-tenant-budget --tenant acme --cents 0 --json",
    ),
    next="grafos admin list-tenants",
)
RULES = taught(
    examples=(
        "grafos admin set-tenant-rules --tenant acme --highest-tier standard",
        "grafos admin set-tenant-rules --tenant acme --signed",
    ),
    next="grafos admin list-tenants",
)
DELETE = taught(
    examples=("grafos admin delete-tenant --tenant acme", "grafos admin delete-tenant --tenant acme --end-all --yes"),
    next="grafos admin list-tenants",
)

TenantName = Annotated[str, typer.Option("--tenant", metavar="NAME", help="the tenant")]


def create_tenant(
    ctx: typer.Context,
    tenant: TenantName,
    cents: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=CENTS_MAX, help="what it may spend in all; default: 2000")
    ] = None,
) -> None:
    """Creates a tenant at the orchestrator, with one budget over all providers, and keeps its credentials here.

    Of one that is there, only a budget that is named changes. Key, certificate and token are files in the fabric's
    home; who has them may run as the tenant.
    """
    from grafos_cli.tables import facts
    from grafos_core.ids import check_name
    from grafos_scheduler.tenant_messages import TenantAsked
    from grafos_stacks.records import OPERATOR, tenant_name

    terminal = terminal_of(ctx)
    who = tenant_name(check_name("tenant", tenant))
    home = _home(terminal)
    with home.client(OPERATOR) as client:
        granted = client.create_tenant(TenantAsked(tenant, home.request_for(who), budget_cents=cents))
        home.keep_grant(who, granted.certificate_pem, granted.api_token)
        view = _only(client.tenants(), tenant)
    files = {what: str(home.folder / f"{who}-{name}") for what, name in _FILES.items()}
    text = facts([*_told(view), *((what, file) for what, file in files.items())], terminal)
    terminal.emit({"tenant": _document(view), "files": files}, text)


def list_tenants(ctx: typer.Context) -> None:
    """Lists the tenants of every scheduler of the fabric, with their money, their quota and what they lease now.

    At an orchestrator a budget holds for all its providers together; a standalone cell has a slice of one.
    """
    from grafos_cli.everywhere import everywhere
    from grafos_cli.tables import table
    from grafos_core.money import format_cents

    def tenants_of(reach: Reach) -> list[TenantView]:
        with reach.operator() as client:
            return client.tenants()

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    found = [(view, reach.cell_id) for reach, views in around.ask(tenants_of) for view in views]
    around.check_list(found)
    rows = [
        [
            view.name,
            scheduler,
            *map(format_cents, (view.budget_micro_cents, view.held_micro_cents, view.spent_micro_cents)),
            f"{view.leased.cpu_cores}/{view.quota.cpu_cores}",
            _sizes(view.leased.mem_bytes, view.quota.mem_bytes),
            _sizes(view.leased.block_bytes, view.quota.block_bytes),
        ]
        for view, scheduler in found
    ]
    head = ("TENANT", "AT", "BUDGET", "HELD", "SPENT", "CORES", "MEMORY", "BLOCKS")
    text = table(head, rows, terminal, "  rrrrrr", spare=("BLOCKS", "MEMORY", "CORES")) if rows else "No tenant.\n"
    tenants = [{**_document(view), "scheduler": scheduler} for view, scheduler in found]
    terminal.emit({"tenants": tenants, "silent": around.documents()}, text)


def set_quota(
    ctx: typer.Context,
    tenant: TenantName,
    cpu_cores: Annotated[int | None, typer.Option(metavar="N", min=0, max=2**31, help="cores")] = None,
    mem: Annotated[str, typer.Option(metavar="BYTES", help="fabric memory: 128k, 1g")] = "",
    block: Annotated[str, typer.Option(metavar="BYTES", help="blocks: 1m, 10g")] = "",
    gpu_count: Annotated[int | None, typer.Option(metavar="N", min=0, max=2**31, help="GPUs")] = None,
    nic_count: Annotated[int | None, typer.Option(metavar="N", min=0, max=2**31, help="network cards")] = None,
) -> None:
    """Sets what a tenant may lease at once at the orchestrator; what is not named stays. Leases that stand do too."""
    from grafos_cli.sizes import read_size
    from grafos_cli.tables import facts
    from grafos_core.errors import GrafosError
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    named = {
        "cpu_cores": cpu_cores,
        "mem_bytes": read_size("--mem", mem) if mem else None,
        "block_bytes": read_size("--block", block) if block else None,
        "gpu_count": gpu_count,
        "nic_count": nic_count,
    }
    changed = {name: amount for name, amount in named.items() if amount is not None}
    if not changed:
        raise GrafosError("usage", "No amount was named", next="name one: --cpu-cores, --mem, --block, …")
    with _home(terminal).client(OPERATOR) as client:
        view = client.set_quota(tenant, _with(_only(client.tenants(), tenant).quota, changed))
    terminal.emit({"tenant": _document(view)}, facts(_told(view), terminal))


def set_tenant_budget(
    ctx: typer.Context,
    tenant: TenantName,
    cents: Annotated[
        int, typer.Option(metavar="N", min=0, max=CENTS_MAX, help="whole US cents in all, spent ones included")
    ],
) -> None:
    """Sets what a tenant may spend in all at the orchestrator, over all providers together.

    Below what is spent and held already nothing more is admitted until it fits again.
    """
    from grafos_cli.tables import facts
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    with _home(terminal).client(OPERATOR) as client:
        view = client.set_budget(tenant, cents)
    terminal.emit({"tenant": _document(view)}, facts(_told(view), terminal))


def set_tenant_rules(
    ctx: typer.Context,
    tenant: TenantName,
    signed: Annotated[
        bool | None, typer.Option("--signed/--unsigned", help="whether its runs must be signed by whoever asks")
    ] = None,
    highest_tier: Annotated[
        str, typer.Option(metavar="TIER", help="no run of it is above: guaranteed, standard or scavenger")
    ] = "",
) -> None:
    """Sets by what rules an orchestrator takes a tenant's runs; what is not named stays.

    A tenant's runs must be signed from the first signing key on that one of its people registers. --unsigned lifts that
    once nobody of it has one any more.
    """
    from grafos_cli.tables import facts
    from grafos_core.errors import GrafosError
    from grafos_core.tiers import tier_named
    from grafos_scheduler.tenant_messages import TenantRules
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    rules = TenantRules(signed, tier_named(highest_tier, "--highest-tier") if highest_tier else None)
    if rules == TenantRules():
        raise GrafosError("usage", "No rule was named", next="name one: --signed, --unsigned, --highest-tier")
    with _home(terminal).client(OPERATOR) as client:
        view = client.set_rules(tenant, rules)
    if signed is False and view.signed:
        terminal.note(f"note: the runs of {tenant} are signed as long as one of its people has a signing key")
    terminal.emit({"tenant": _document(view)}, facts(_told(view), terminal))


def delete_tenant(
    ctx: typer.Context,
    tenant: TenantName,
    end_all: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--end-all", help="end its runs, services, leases and programs before")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Ends a tenant of the orchestrator that has no leases and no runs; its credentials are worthless at once.

    Its name is never given out again, for what it ran stays told under it. With --end-all what it has is ended first,
    without waiting for anybody's sessions; a cell that is silent is waited for until its leases have run out.
    """
    from grafos_stacks.records import OPERATOR, tenant_name

    terminal = terminal_of(ctx)
    home = _home(terminal)
    home.known()
    if not yes:
        what = f"all that tenant {tenant} has, and the tenant" if end_all else f"tenant {tenant}"
        terminal.confirm(f"End {what}? There will never be another one of that name.", "--yes")
    with home.client(OPERATOR) as client:
        view = _ended(client, tenant) if end_all else client.delete_tenant(tenant)
    home.forget_grant(tenant_name(tenant))
    terminal.emit({"tenant": _document(view)}, f"Tenant {tenant} is gone; its runs stay told.\n")


def _ended(client: OrchestratorClient, tenant: str) -> TenantView:
    """The tenant once nothing of it was left, and it was ended; ``tenant_in_use`` after ``CLEARED_WITHIN_S``."""
    from grafos_core.errors import GrafosError

    until = time.monotonic() + CLEARED_WITHIN_S
    while True:
        client.clear_tenant(tenant)
        try:
            return client.delete_tenant(tenant)
        except GrafosError as error:
            if error.code != "tenant_in_use" or time.monotonic() > until:
                raise
        time.sleep(LOOK_EVERY_S)


_FILES = {"certificate": "cert.pem", "key": "key.pem", "token": "token"}


def _home(terminal: Terminal) -> OrchestratorHome:
    from grafos_cli.fabric import open_default
    from grafos_stacks.orchestrators import OrchestratorHome

    return OrchestratorHome(open_default(terminal))


def _only(views: list[TenantView], name: str) -> TenantView:
    from grafos_core.errors import GrafosError

    found = next((view for view in views if view.name == name), None)
    if found is None:
        raise GrafosError(
            "tenant_unknown", f"There is no tenant {name[:60]!r} at the orchestrator", next="grafos admin list-tenants"
        )
    return found


def _with(quota: Resources, changed: dict[str, int]) -> Resources:
    import msgspec

    return msgspec.structs.replace(quota, **changed)


def _document(view: TenantView) -> dict[str, object]:
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(view)
    return found


def _told(view: TenantView) -> list[tuple[str, str]]:
    from grafos_cli.sizes import size_text
    from grafos_core.money import format_cents

    quota = view.quota
    return [
        ("tenant", view.name),
        ("budget", format_cents(view.budget_micro_cents)),
        ("held", format_cents(view.held_micro_cents)),
        ("spent", format_cents(view.spent_micro_cents)),
        (
            "quota",
            f"{quota.cpu_cores} cores, {size_text(quota.mem_bytes)} memory, {size_text(quota.block_bytes)} blocks",
        ),
        ("runs", f"of the tier {view.highest_tier} at most, {'signed' if view.signed else 'signed or not'}"),
    ]


def _sizes(leased: int, quota: int) -> str:
    from grafos_cli.sizes import size_text

    return f"{size_text(leased)}/{size_text(quota)}"
