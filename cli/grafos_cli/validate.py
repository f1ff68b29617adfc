"""`grafos validate`: what can be said of a program before it is deployed: the static rules, then its own tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cell.module import Finding, ModuleFacts
    from grafos_cli.manifest import Program
    from grafos_cli.terminal import Terminal
    from grafos_core.errors import GrafosError

app = new_command_app()

TESTS_TEXT_BYTES_MAX = 256 * 1024
"""Of what a test tool said, its last; whoever prints more than that will not read it in a report."""
TESTS_LINES_SHOWN = 40
"""Of failed tests; tools say what failed last."""


@dataclass(frozen=True)
class Checked:
    """One module with everything that is wrong with it; ``label`` is the tasklet's or the file's name."""

    label: str
    facts: ModuleFacts
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Tested:
    """How the program's own tests went; ``why`` is said where none ran. ``text`` is what their tool said."""

    state: Literal["passed", "failed", "none", "not_run"]
    why: str = ""
    tool: str = ""
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    text: str = ""


@app.command(
    cls=taught(
        examples=(
            "grafos validate",
            "grafos validate cookbook/png-metadata --static",
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
    *,
    static: Annotated[bool, typer.Option("--static", help="leave the program's own tests out")] = False,
) -> None:
    """Checks modules against tasklet-profile-v0, compiles them, and runs the program's own tests, all without network.

    Checked are exports, imports, memory, proposals and size; every cell does that again before it runs a module. Tests
    run in the language's own tool. Both stand in the report that is kept under .grafos/validation/.
    """
    from grafos_cli.project import program_folder, project_folder

    terminal = terminal_of(ctx)
    as_file = Path(target)
    if target and (as_file.suffix == ".wasm" or as_file.is_file()) and as_file.name != "grafos.toml":
        home, subject, checked = project_folder(), as_file.stem, [_check_file(as_file)]
        tested, failure = Tested("not_run", "a module alone has no tests"), None
    else:
        from grafos_cli.manifest import load_program

        home = program_folder(target)
        program = load_program(home)
        subject, checked = program.name, _check_program(program)
        if static:
            tested, failure = Tested("not_run", "left out with --static"), None
        elif any(one.findings for one in checked):
            tested, failure = Tested("not_run", "the modules are not in order"), None
        else:
            tested, failure = _run_tests(program, terminal)
    report = _write_report(home, subject, checked, tested)
    _show(checked, tested, report, terminal, refused=_refusal(checked, report, terminal) or failure)


def _run_tests(program: Program, terminal: Terminal) -> tuple[Tested, GrafosError | None]:
    """How they went, and the error that the command ends with when that was not well."""
    from grafos_cli.languages.contract import language_of
    from grafos_cli.steps import show_steps
    from grafos_core.errors import GrafosError

    language = language_of(program)
    try:
        toolchain = language.find(program.folder)
        with show_steps(terminal, waiting=f"testing {program.name} ({program.language})"):
            ran = language.run_tests(program, toolchain)
    except GrafosError as error:
        error.next += "\nor leave the tests out: grafos validate --static"
        return Tested("not_run", error.what), error
    said = ran.text[-TESTS_TEXT_BYTES_MAX:]
    tested = Tested("passed", "", toolchain.version, ran.passed, ran.failed, ran.seconds, said)
    if ran.failed:
        return replace(tested, state="failed"), _tests_failed(program, tested)
    if not ran.passed:
        return replace(tested, state="none", why=said.strip() or "the program has none"), None
    return tested, None


def _tests_failed(program: Program, tested: Tested) -> GrafosError:
    from grafos_core.errors import GrafosError

    lines = tested.text.strip().splitlines()
    shown = lines[-TESTS_LINES_SHOWN:]
    return GrafosError(
        "tests_failed",
        f"{tested.failed} of {tested.passed + tested.failed} tests of {program.name} failed",
        where=str(program.folder),
        why="\n".join([*([f"… {len(lines) - len(shown)} lines before"] if len(lines) > len(shown) else []), *shown]),
        next="mend the program or the test, then: grafos tasklet build && grafos validate",
    )


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


def _check_program(program: Program) -> list[Checked]:
    from grafos_cli.building import built_module

    return [
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


def _write_report(home: Path, subject: str, checked: list[Checked], tested: Tested) -> Path:
    from grafos_cli.project import state_folder
    from grafos_core.paths import write_private

    path = state_folder(home, "validation") / f"{subject}.json"
    document = {"schema_version": 1, "checked_at": time.time(), **_document(checked, tested)}
    write_private(path, json.dumps(document, indent=1).encode())
    return path


def _document(checked: list[Checked], tested: Tested) -> dict[str, object]:
    """What the report and `--json` both hold."""
    import msgspec

    modules = [
        {"label": one.label, "ok": not one.findings, **msgspec.to_builtins(one.facts), "findings": _plain(one.findings)}
        for one in checked
    ]
    return {"modules": modules, "tests": asdict(tested)}


def _plain(findings: Iterable[Finding]) -> list[object]:
    import msgspec

    return [msgspec.to_builtins(finding) for finding in findings]


def _refusal(checked: list[Checked], report: Path, terminal: Terminal) -> GrafosError | None:
    """The first finding of all as the error, if there is one; the others are remarks."""
    from grafos_core.errors import GrafosError

    findings = [(one, finding) for one in checked for finding in one.findings]
    if not findings:
        return None
    one, first = findings[0]
    for other, finding in findings[1:]:
        terminal.note(f"also in {other.label}: {finding.what} ({finding.rule})")
    return GrafosError(
        first.code,
        first.what,
        where=f"{one.label}, rule {first.rule}",
        next=first.next or f"read the report: {report}",
        context={"findings": _plain(finding for _, finding in findings)},
    )


def _show(
    checked: list[Checked], tested: Tested, report: Path, terminal: Terminal, refused: GrafosError | None
) -> None:
    """The modules and the tests, or, for programs, the error alone; raises it."""
    from grafos_cli.tables import table

    rows = [_row(one) for one in checked]
    text = table(("MODULE", "SHA256", "BYTES", "MEMORY", "IMPORTS", "RESULT"), rows, terminal, "  rrr")
    if not refused or not terminal.json:
        document = {"ok": not refused, "report": str(report), **_document(checked, tested)}
        terminal.emit(document, f"{text}\n{_tests_line(tested)}")
    terminal.note(f"report: {report}")
    if refused:
        refused.context["report"] = str(report)
        raise refused


def _tests_line(tested: Tested) -> str:
    if tested.state in {"none", "not_run"}:
        return f"tests: {'none' if tested.state == 'none' else 'not run'}, {tested.why}"
    failed = f", {tested.failed} failed" if tested.failed else ""
    return f"tests: {tested.passed} passed{failed}, in {tested.seconds:.1f} s"


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
