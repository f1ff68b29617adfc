"""`grafos validate`: what can be said about a module without running it, and without network."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cell.module import Finding, ModuleFacts
    from grafos_cli.terminal import Terminal

app = new_command_app()


@dataclass(frozen=True)
class Checked:
    """One module with everything that is wrong with it; ``label`` is the tasklet's or the file's name."""

    label: str
    facts: ModuleFacts
    findings: tuple[Finding, ...]


@app.command(
    cls=taught(
        examples=(
            "grafos validate",
            "grafos validate cookbook/png-metadata",
            "grafos validate some/module.wasm --json",
        ),
        next="grafos deploy run --provider local",
    ),
)
def validate(
    ctx: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="PROGRAM|FILE.wasm", help="a program's folder or one module; default: the one here")
    ] = "",
) -> None:
    """Checks modules against tasklet-profile-v0: exports, imports, memory, proposals, size; then compiles them.

    Every cell does the same again before it runs a module. The report is kept under .grafos/validation/.
    """
    from grafos_cli.project import program_folder, project_folder

    terminal = terminal_of(ctx)
    as_file = Path(target)
    if target and (as_file.suffix == ".wasm" or as_file.is_file()) and as_file.name != "grafos.toml":
        home, subject, checked = project_folder(), as_file.stem, [_check_file(as_file)]
    else:
        home = program_folder(target)
        subject, checked = _check_program(home)
    report = _write_report(home, subject, checked)
    _refuse_or_show(checked, report, terminal)


def _check_file(path: Path) -> Checked:
    from grafos_cell import abi
    from grafos_core.errors import GrafosError

    try:
        with path.open("rb") as file:
            data = file.read(abi.MODULE_BYTES_MAX + 1)
    except OSError as error:
        raise GrafosError(
            "usage", f"{path} cannot be read", why=error.strerror or "", next="name a .wasm file"
        ) from None
    return _check(path.name, data, abi.MEMORY_BYTES_DEFAULT)


def _check_program(folder: Path) -> tuple[str, list[Checked]]:
    from grafos_cli.building import built_module
    from grafos_cli.manifest import load_program

    program = load_program(folder)
    return program.name, [
        _check(tasklet.name, built_module(program, tasklet)[1], tasklet.memory_bytes) for tasklet in program.tasklets
    ]


def _check(label: str, data: bytes, memory_limit_bytes: int) -> Checked:
    """The static rules; only a module that keeps them all is worth the compiler's time."""
    from grafos_cell.module import Finding, check_module, compile_check
    from grafos_core.errors import GrafosError

    facts = check_module(data, memory_limit_bytes)
    findings = facts.findings
    if not findings:
        try:
            compile_check(data)
        except GrafosError as refused:
            findings = (Finding("code", refused.why or refused.what, refused.next, refused.code),)
    return Checked(label, facts, findings)


def _write_report(home: Path, subject: str, checked: list[Checked]) -> Path:
    from grafos_cli.project import state_folder
    from grafos_core.paths import write_private

    path = state_folder(home, "validation") / f"{subject}.json"
    document = {"schema_version": 1, "checked_at": time.time(), "modules": [_document(one) for one in checked]}
    write_private(path, json.dumps(document, indent=1).encode())
    return path


def _document(one: Checked) -> dict[str, object]:
    import msgspec

    facts = msgspec.to_builtins(one.facts)
    return {"label": one.label, "ok": not one.findings, **facts, "findings": msgspec.to_builtins(one.findings)}


def _refuse_or_show(checked: list[Checked], report: Path, terminal: Terminal) -> None:
    """The table, and the first finding of all as the error when there is one."""
    import msgspec

    from grafos_cli.tables import table
    from grafos_core.errors import GrafosError

    findings = [(one, finding) for one in checked for finding in one.findings]
    rows = [_row(one) for one in checked]
    text = table(("MODULE", "SHA256", "BYTES", "MEMORY", "IMPORTS", "RESULT"), rows, terminal, "  rrr")
    if not findings or not terminal.json:
        terminal.emit({"ok": True, "report": str(report), "modules": [_document(one) for one in checked]}, text)
    if findings:
        one, first = findings[0]
        for other, finding in findings[1:]:
            terminal.note(f"also in {other.label}: {finding.what} ({finding.rule})")
        raise GrafosError(
            first.code,
            first.what,
            where=f"{one.label}, rule {first.rule}",
            next=first.next or f"read the report: {report}",
            context={"report": str(report), "findings": [msgspec.to_builtins(finding) for _, finding in findings]},
        )
    terminal.note(f"report: {report}")


def _row(one: Checked) -> list[str]:
    facts = one.facts
    return [
        one.label,
        facts.sha256[:12],
        f"{facts.size_bytes:,}",
        f"{facts.memory_min_bytes // 1024} KiB",
        str(len(facts.imports)),
        "ok" if not one.findings else f"{len(one.findings)} refused",
    ]
