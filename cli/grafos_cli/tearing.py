"""`grafos cloud teardown`: one cell, several, or all of a cloud; with a signed proof if that is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL, GrafosError

if TYPE_CHECKING:
    from collections.abc import Callable

    from grafos_cli.by_pulumi_ends import Ended
    from grafos_cli.steps import Steps
    from grafos_cli.tearing_foreseen import Foreseen
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_stacks.batch import Outcome, Target
    from grafos_stacks.direct import Hands
    from grafos_stacks.proof import Proof

TAUGHT = taught(
    examples=(
        "grafos cloud teardown aws --cell-id aws-k3f9q2",
        "grafos cloud teardown aws --cell-id aws-k3f9q2 --prove --yes --json",
        "grafos cloud teardown gcp --all --dry-run",
    ),
    next="grafos runs ls",
)


def teardown(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="aws, azure or gcp")],
    cell_id: Annotated[
        list[str] | None, typer.Option("--cell-id", metavar="ID", help="which cell; may be given several times")
    ] = None,
    all_cells: Annotated[  # noqa: FBT002
        bool, typer.Option("--all", help="every cell of the fabric on that cloud; its orchestrator stays")
    ] = False,
    region: Annotated[str, typer.Option(metavar="NAME", help="only needed for a cell that nothing is known of")] = "",
    prove: Annotated[  # noqa: FBT002
        bool, typer.Option("--prove", help="then list every region, and sign that nothing of it is there")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what goes and what stays, change nothing")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Brings the cell's runs home, deletes all that it consists of, and prints the signed receipt of it.

    Every resource is proved gone by reading. Works also when the cell does not answer, is gone already, or when
    nothing is known of it here any more. Several are torn down at once, and what fails for one keeps no other.
    """
    from grafos_cli.accounts import provider_named
    from grafos_cli.tearing_foreseen import foreseen_document, foreseen_text

    terminal = terminal_of(ctx)
    provider_named(provider)
    named = list(dict.fromkeys(cell_id or ()))
    if bool(named) == all_cells:
        raise GrafosError(
            "usage",
            "name the cells or take all of them, one of both",
            next=f"grafos cloud teardown {provider} --cell-id ID   or   --all; grafos cloud ls lists them",
        )
    if dry_run and prove:
        raise GrafosError(
            "usage", "a proof comes after a teardown, and --dry-run makes none", next="leave one of them out"
        )
    _check_cloud(terminal, provider, named)
    if dry_run:
        ends = _foreseen(terminal, provider, named, region)
        terminal.emit(foreseen_document(ends), foreseen_text(ends, terminal))
    elif len(named) == 1:
        _one(terminal, provider, named[0], region, prove=prove, yes=yes)
    else:
        _many(terminal, provider, named, region, prove=prove, yes=yes)


def _foreseen(terminal: Terminal, provider: str, named: list[str], region: str) -> list[Foreseen]:
    """The end of each cell, as journal and cloud tell it; ``cell_unknown``."""
    from grafos_cli.accounts import hands_for, open_account
    from grafos_cli.fabric import open_default

    connector = open_account(provider, region)
    with hands_for([connector], open_default(terminal)) as (hands,):
        return _ends(hands, _targets(hands, provider, named, region), terminal)


def _ends(quiet: Hands, targets: list[Target], terminal: Terminal) -> list[Foreseen]:
    """The same, of targets that are known."""
    from grafos_cli.accounts import told_by
    from grafos_cli.steps import show_steps
    from grafos_cli.tearing_foreseen import foresee

    leaving = [target.cell_id for target in targets]
    with show_steps(terminal, waiting="looking") as steps:
        hands = replace(quiet, progress=told_by(steps))
        return [foresee(hands, target.cell_id, target.region, leaving) for target in targets]


def _agreed(terminal: Terminal, question: str, ends: Callable[[], list[Foreseen]]) -> None:
    """Asks, below what goes and what stays; whoever cannot be asked needs to see neither."""
    from grafos_cli.tearing_foreseen import foreseen_text

    if terminal.interactive:
        try:
            terminal.note(foreseen_text(ends(), terminal))
        except GrafosError as error:
            if error.code != "cell_unknown":  # of which the teardown itself tells what there is to tell
                raise
    terminal.confirm(question, "--yes")


def _check_cloud(terminal: Terminal, provider: str, named: list[str]) -> None:
    """``usage`` for a living cell of which the records say that it is on another cloud, where it would look gone."""
    from grafos_cli.clouds import cloud_of
    from grafos_cli.fabric import open_default

    fabric = open_default(terminal)
    for cell_id in named:
        if (known := cloud_of(fabric, cell_id, terminal)) not in ("", provider):
            raise GrafosError(
                "usage",
                f"{cell_id} is on {known}, not on {provider}",
                next=f"grafos cloud teardown {known} --cell-id {cell_id}",
            )


def _one(terminal: Terminal, provider: str, cell_id: str, region: str, *, prove: bool, yes: bool) -> None:
    from grafos_cli.accounts import hands_for, open_account, told_by
    from grafos_cli.by_pulumi_ends import end_by_pulumi
    from grafos_cli.fabric import open_default
    from grafos_cli.interrupts import parting
    from grafos_cli.project import project_folder
    from grafos_cli.receipt_view import receipt_document, receipt_text
    from grafos_cli.steps import show_steps
    from grafos_stacks.records import CellHome
    from grafos_stacks.teardown import teardown as tear_down

    if not yes:
        question = f"Tear down cell {cell_id} on {provider}, with all that it consists of?"
        _agreed(terminal, question, lambda: _foreseen(terminal, provider, [cell_id], region))
    connector = open_account(provider, region)
    fabric = open_default(terminal)
    place = region or CellHome(fabric, cell_id).region()
    torn = None
    left = parting(f"Stopped while {cell_id} was torn down; next: grafos cloud teardown {provider} --cell-id {cell_id}")
    with hands_for([connector], fabric) as (quiet,), left, show_steps(terminal) as steps:
        hands = replace(quiet, progress=told_by(steps))
        for refusal in end_by_pulumi([cell_id], provider, terminal, steps).refused.values():
            raise refusal
        try:
            torn = tear_down(hands, cell_id, project_folder(), region=place, provider=provider)
        except GrafosError as error:
            if not prove or error.code != "cell_unknown":
                raise
        proof = proved(hands, cell_id, steps) if prove else None
    document: dict[str, Any] = {"receipt": receipt_document(torn) if torn else None}
    text = receipt_text(torn, terminal) if torn else _unknown_text(cell_id, fabric)
    if proof is not None:
        document["inventory"] = proof_document(proof)
        text += proof_text(proof)
    terminal.emit(document, text)


def _many(terminal: Terminal, provider: str, named: list[str], region: str, *, prove: bool, yes: bool) -> None:
    from grafos_cli.accounts import hands_for, open_account, told_of
    from grafos_cli.by_pulumi_ends import end_by_pulumi
    from grafos_cli.fabric import open_default
    from grafos_cli.interrupts import resumable
    from grafos_cli.project import project_folder
    from grafos_cli.steps import show_steps
    from grafos_stacks.batch import Outcome, teardown_batch

    connector = open_account(provider, region)
    with hands_for([connector], open_default(terminal)) as (hands,):
        targets = _targets(hands, provider, named, region)
        if targets and not yes:
            names = ", ".join(target.cell_id for target in targets)
            question = f"Tear down {len(targets)} cells on {provider} ({names}), with all they are?"
            _agreed(terminal, question, lambda: _ends(hands, targets, terminal))
        proofs = []
        again = "the same command again finishes it"
        with resumable("Stopped while the cells were torn down", again), show_steps(terminal) as steps:
            ended = end_by_pulumi([target.cell_id for target in targets], provider, terminal, steps)
            rest = [_after(target, ended) for target in targets if target.cell_id not in ended.refused]
            outcomes = teardown_batch(hands, rest, project_folder(), lambda cell_id: told_of(steps, cell_id))
            outcomes += tuple(Outcome(one, None, ended.refused[one.cell_id]) for one in targets if one not in rest)
            if prove and not any(outcome.error for outcome in outcomes):
                proofs = [proved(hands, stack, steps) for stack in (named or [""])]
    document: dict[str, Any] = _batch_document(outcomes)
    document["inventories"] = [proof_document(proof) for proof in proofs]
    terminal.emit(document, _batch_text(outcomes, terminal) + "".join(proof_text(proof) for proof in proofs))
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(PARTIAL)


def _targets(hands: Hands, provider: str, named: list[str], region: str) -> list[Target]:
    """The cells that were named; without names all that the journal knows or that any region shows, and not an
    orchestrator that keeps the ledger: `fabric down` ends that, after the cells."""
    from grafos_stacks.batch import Target
    from grafos_stacks.inventory import Verdict
    from grafos_stacks.spec import is_cell
    from grafos_stacks.sweeping import look
    from grafos_stacks.teardown import keeps_ledger

    if named:
        return [Target(cell_id, provider, region) for cell_id in named]
    sight = look(hands, (region,) if region else ())
    shown = {
        Target(one.stack, provider, one.region, seen=True)
        for one in sight.judged
        if one.verdict not in (Verdict.UNPROVED, Verdict.BUSY) and is_cell(one.stack)
    }
    found = shown | {Target(row.stack, provider, row.region) for row in sight.forgotten if is_cell(row.stack)}
    return sorted(target for target in found if not keeps_ledger(hands, target.cell_id))


def _after(target: Target, ended: Ended) -> Target:
    """One that Pulumi has ended was seen before that, and has its receipt."""
    return target._replace(seen=False) if target.cell_id in ended.cells else target


def proved(hands: Hands, stack: str, steps: Steps) -> Proof:
    from grafos_stacks.proof import prove

    steps.began("proof", "every region")
    proof = prove(hands, stack)
    steps.ended("proof", "0 left")
    return proof


def _unknown_text(cell_id: str, fabric: Fabric) -> str:
    """A cell of another fabric, or of this one under a key that is lost, is seen by nobody without its key."""
    return (
        f"Nothing is known of {cell_id} here, and the cloud shows nothing of it that bears the key of {fabric.id}.\n"
        "If another fabric made it, take that one's key first:  grafos fabric key import FILE\n"
    )


def proof_text(proof: Proof) -> str:
    """The inventory for people; one that shows something is an error, and not shown here."""
    import base64

    inventory = proof.inventory
    cell = f"cell {inventory.stack} of " if inventory.stack else ""
    copies = f" {inventory.unproved} things bear its tags and are not its own." if inventory.unproved else ""
    signature = base64.b64encode(proof.signed.signature).decode()[:24]
    return (
        f"Proved: nothing of {cell}fabric {inventory.fabric} is in any region of "
        f"{inventory.provider} {inventory.account}.{copies}\n"
        f"Signed by fabric {inventory.fabric}, {signature}…\n"
    )


def proof_document(proof: Proof) -> dict[str, Any]:
    """The inventory for programs, with its signature."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(proof.inventory)
    return {**found, "signed": msgspec.to_builtins(proof.signed)}


def _batch_text(outcomes: tuple[Outcome, ...], terminal: Terminal) -> str:
    from grafos_cli.receipt_view import cost_text
    from grafos_cli.tables import table

    if not outcomes:
        return "There is no cell to tear down.\n"
    rows = []
    for target, torn, error in outcomes:
        if torn is not None:
            receipt = torn.receipt
            counts = [str(len(receipt.resources)), str(receipt.left)]
            rows.append([target.cell_id, *counts, cost_text(receipt), "gone"])
        else:
            rows.append([target.cell_id, "-", "-", "-", str(error)])
    failed = sum(1 for outcome in outcomes if outcome.error)
    head = ("CELL", "REMOVED", "LEFT", "COST", "RESULT")
    return table(head, rows, terminal, " rrr") + f"\n{len(outcomes) - failed} of {len(outcomes)} cells are gone.\n"


def _batch_document(outcomes: tuple[Outcome, ...]) -> dict[str, Any]:
    from grafos_cli.receipt_view import receipt_document

    return {
        "receipts": [receipt_document(outcome.torn) for outcome in outcomes if outcome.torn is not None],
        "failures": [
            {"cell_id": outcome.target.cell_id, **outcome.error.to_wire()} for outcome in outcomes if outcome.error
        ],
    }
