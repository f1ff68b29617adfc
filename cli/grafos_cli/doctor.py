"""`grafos doctor`: what is in order here, what is not, and what to do about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.checkups.findings import Finding
    from grafos_cli.terminal import Terminal

app = new_command_app()

COLORS = {"ok": "green", "none": "dim", "fixed": "cyan", "warn": "yellow", "fail": "red"}


@app.command(
    cls=taught(
        examples=("grafos doctor", "grafos doctor --fix", "grafos doctor --json"),
        next="grafos demo",
        streams="findings",
    ),
)
def doctor(
    ctx: typer.Context,
    region: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="asked of the cloud that names its regions so; default: as for cloud provision",
        ),
    ] = "",
    within: Annotated[str, typer.Option(metavar="TIME", help="how long the clouds may take")] = "3s",
    fix: Annotated[bool, typer.Option("--fix", help="mend what can be mended without losing anything")] = False,  # noqa: FBT002
) -> None:
    """Looks at this machine, your fabric, this project, the emulated clouds and your clouds, in three seconds.

    One line for each finding, its state first (ok, none, fixed, warn, fail), so that grep finds them. Nothing is
    changed without --fix. The exit code is 1 if anything failed.
    """
    from grafos_cli.checkups.findings import Status
    from grafos_cli.sizes import read_duration
    from grafos_cli.steps import show_steps

    terminal = terminal_of(ctx)
    within_s = read_duration("--within", within)
    with show_steps(terminal, waiting="looking"):
        findings = _look(region, within_s, fix=fix)
    counts = Counter(finding.status for finding in findings)
    document = {
        "findings": [_document(finding) for finding in findings],
        "counts": {status.value: counts[status] for status in Status},
    }
    terminal.emit(document, "".join(_line(finding, findings, terminal) for finding in findings))
    if counts[Status.FAIL]:
        raise typer.Exit(1)


def _look(region: str, within_s: float, *, fix: bool) -> list[Finding]:
    from concurrent.futures import ThreadPoolExecutor

    from grafos_cli.checkups.clouds import check_clouds
    from grafos_cli.checkups.fabric import check_fabric
    from grafos_cli.checkups.findings import findings_of
    from grafos_cli.checkups.machine import check_machine
    from grafos_cli.checkups.project import check_emulator, check_local_fabric, check_program
    from grafos_cli.regions import REGION_VARIABLES, region_at_hand
    from grafos_cli.wishes import cloud_of_region

    regions = {provider: region_at_hand(provider) for provider in REGION_VARIABLES}
    if region:
        regions[cloud_of_region(region)] = region
    checks = (
        ("machine", "machine", check_machine),
        ("fabric", "fabric", lambda: check_fabric(fix=fix)),
        ("program", "compiler", check_program),
        ("local fabric", "daemons", check_local_fabric),
        ("emulator", "daemon", lambda: check_emulator(fix=fix)),
        ("clouds", "clouds", lambda: check_clouds(regions, within_s)),
    )
    with ThreadPoolExecutor(len(checks)) as pool:
        found = pool.map(lambda check: findings_of(*check), checks)
        return [finding for findings in found for finding in findings]


def _line(finding: Finding, findings: list[Finding], terminal: Terminal) -> str:
    where = f"{finding.area}: {finding.name}"
    width = max(len(f"{one.area}: {one.name}") for one in findings)
    state = terminal.paint(COLORS[finding.status.value], f"{finding.status.value:<5}")
    text = f"{state}  {where:<{width}}  {finding.what}\n"
    if finding.next:
        text += "".join(f"{'':<5}  {'':<{width}}  next: {line}\n" for line in finding.next.splitlines())
    return text


def _document(finding: Finding) -> dict[str, object]:
    return {name: str(getattr(finding, name)) for name in finding.__struct_fields__}
