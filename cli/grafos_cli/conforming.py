"""`grafos provider conform` and `mark-production`: whether a registered cell runs code as the ABI says, and which
providers take only cells that were shown to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cell.conformance.case import Case
    from grafos_cell.conformance.end_to_end import OpenClient, Tried
    from grafos_cli.terminal import Terminal
    from grafos_core.errors import GrafosError
    from grafos_scheduler.client import SchedulerClient
    from grafos_scheduler.messages import CellView, Conformance

TRIAL_S = 3600.0
"""As long as an orchestrator keeps a trial open; it ends with the report."""
CONFORM = taught(
    examples=("grafos provider conform gcp-1", "grafos provider conform gcp-1 --tenant acme --json | jq .conformance"),
    next="grafos provider status gcp",
)
MARK = taught(
    examples=("grafos provider mark-production gcp", "grafos provider mark-production gcp --off"),
    next="grafos provider conform gcp-1",
)


def conform(
    ctx: typer.Context,
    cell_id: Annotated[str, typer.Argument(metavar="CELL_ID", help="a registered cell, as fabric cells prints it")],
    tenant: Annotated[str, typer.Option(metavar="NAME", help="who runs the cases, and pays for them")] = "default",
    only: Annotated[
        str, typer.Option(metavar="PREFIX", help="only cases whose name begins like this; nothing is recorded then")
    ] = "",
) -> None:
    """Runs the conformance suite on a registered cell, end to end, and records what it says.

    Each case is a run that the orchestrator admits on this cell alone, also while a fault or the suite itself keeps
    other runs away. A cell of a provider that is marked as one for production gets runs only once it has passed, with
    the key and the software that it has now. A suite that passed clears a fault.
    """
    from grafos_cell.conformance.end_to_end import left_out
    from grafos_cell.conformance.suite import CASES, version_of
    from grafos_cli.fabric import open_default
    from grafos_core.errors import GrafosError
    from grafos_scheduler.messages import Conformance
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import OPERATOR, tenant_name

    terminal = terminal_of(ctx)
    home = OrchestratorHome(open_default(terminal))

    def open_client() -> SchedulerClient:
        return home.client(tenant_name(tenant))

    open_client().close()  # before anything is begun: there are no such credentials
    with home.client(OPERATOR) as operator:
        view = operator.open_trial(cell_id, tenant, TRIAL_S)
        reasons = {case.name: left_out(case, view.total) for case in CASES}
        cases = [case for case in CASES if not reasons[case.name] and case.name.startswith(only)]
        if not cases:
            raise GrafosError("usage", f"No case has a name that begins with {only[:40]!r}", next="leave out --only")
        tried = _try_each(cases, view, open_client, terminal)
        wrong = tuple(each.row.name for each in tried if not each.row.is_as_expected)
        said = Conformance(version_of(), len(tried), wrong)
        if not only:
            said = operator.report_conformance(cell_id, said)
    skipped = Counter(reason for reason in reasons.values() if reason)
    document = _document(view, tried, said, skipped, recorded=not only)
    if wrong:
        raise _failed(document)
    terminal.emit(document, _text(document, said, terminal))


def mark_production(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="aws, azure, gcp, as provider list has it")],
    off: Annotated[bool, typer.Option("--off", help="takes the mark away")] = False,  # noqa: FBT002
) -> None:
    """Marks a provider as one for production: its registered cells get runs only once they passed the suite.

    What runs there goes on. A cell that did not pass says so under `code_enabled` in provider status.
    """
    import msgspec

    from grafos_cli.fabric import open_default
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    with OrchestratorHome(open_default(terminal)).client(OPERATOR) as client:
        view = client.mark_production(provider, production=not off)
    what = "is not one for production any more" if off else "is one for production now"
    text = f"Provider {provider} {what}; {view.ready_cells} of its {view.cells} registered cells are ready.\n"
    terminal.emit({"provider": msgspec.to_builtins(view)}, text)


def _try_each(cases: list[Case], view: CellView, open_client: OpenClient, terminal: Terminal) -> list[Tried]:
    from grafos_cell.conformance.end_to_end import try_each
    from grafos_cli.steps import show_steps

    tried = []
    with show_steps(terminal) as steps:
        steps.began("conformance", f"{len(cases)} cases")
        for each in try_each(cases, view, open_client):
            tried.append(each)
            steps.changed("conformance", f"{len(tried)} of {len(cases)} cases")
        wrong = sum(not each.row.is_as_expected for each in tried)
        steps.ended("conformance", f"{len(tried)} cases, {wrong} not as expected", failed=wrong > 0)
    return tried


def _document(
    view: CellView, tried: list[Tried], said: Conformance, skipped: Counter[str], *, recorded: bool
) -> dict[str, Any]:
    import msgspec

    return {
        "cell_id": view.cell_id,
        "provider": view.provider,
        "conformance": msgspec.to_builtins(said),
        "recorded": recorded,
        "left_out": dict(skipped),
        "cost_micro_cents": sum(each.cost_micro_cents for each in tried),
        "wrong": [
            {"case": each.row.name, "expected": each.row.expected, "seen": each.row.seen, "run_id": each.run_id}
            for each in tried
            if not each.row.is_as_expected
        ],
    }


def _text(document: dict[str, Any], said: Conformance, terminal: Terminal) -> str:
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import facts
    from grafos_core.money import format_cents

    recorded = f"{moment_text(said.judged_at)}, of its software {said.agent_version}"
    told = [
        ("cell", f"{document['cell_id']} of {document['provider']}"),
        ("suite", said.suite),
        ("cases", f"{said.cases}, all as expected"),
        ("left out", "; ".join(f"{count}: {why}" for why, count in document["left_out"].items()) or "none"),
        ("cost", format_cents(document["cost_micro_cents"])),
        ("recorded", recorded if document["recorded"] else "no: it was not the whole suite"),
    ]
    return facts(told, terminal)


def _failed(document: dict[str, Any]) -> GrafosError:
    from grafos_core.errors import GrafosError

    cell_id, wrong = document["cell_id"], document["wrong"]
    return GrafosError(
        "conformance_failed",
        f"Cell {cell_id} does not conform: {len(wrong)} of {document['conformance']['cases']} cases ended otherwise",
        why=f"{wrong[0]['case']}: expected {wrong[0]['expected']}; seen {wrong[0]['seen']}",
        next=f"update the cell's software, then: grafos provider conform {cell_id}",
        context=document,
    )
