"""`grafos cloud image extend`: a published image is kept for longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import GrafosError

EXTEND = taught(
    examples=(
        "grafos cloud image extend img-aws-eu-central-1-0f3a52c81b77 --keep +30d",
        "grafos cloud image extend img-gcp-us-central1-0f3a52c81b77 --keep +90d --yes --json",
    ),
    next="grafos cloud image ls --provider all",
)


def extend(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="as `grafos cloud image ls --provider all` shows it")],
    keep: Annotated[str, typer.Option(metavar="TIME", help="so much later than it ends now: +30d, +90d")],
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Keeps a published image for longer: holds the money first, then moves the end in its signed tags.

    Stopped at any moment, the same command finishes that very extension.
    """
    from grafos_cli.accounts import hands_for, open_account, told_by
    from grafos_cli.fabric import open_default
    from grafos_cli.fictional import amount_text
    from grafos_cli.image_publish import provider_in
    from grafos_cli.interrupts import resumable
    from grafos_cli.moments import moment_text
    from grafos_cli.sizes import read_duration
    from grafos_cli.steps import show_steps
    from grafos_stacks.keeping import keep_longer

    terminal, provider = terminal_of(ctx), provider_in(name)
    if not keep.strip().startswith("+"):
        told = f"{keep[:40]!r} does not say how much later"
        raise GrafosError("usage", told, where="--keep", next="write it like +30d or +90d")
    more_s = read_duration("--keep", keep.strip()[1:])
    fabric = open_default(terminal)
    if not yes:
        terminal.confirm(f"Keep {name} for longer, and hold what that may cost?", "--yes")
    again = "run the same command again: it finishes that very extension"
    stopped = resumable(f"Stopped while {name} was extended", again)
    with hands_for([open_account(provider)], fabric) as (hands,), stopped, show_steps(terminal) as steps:
        done = keep_longer(replace(hands, progress=told_by(steps)), name, more_s)
    kept = done.publication
    held = amount_text(done.held_micro_cents, fictional=kept.price.fictional)
    document = {
        "name": kept.stack,
        "ends_at": kept.keep_until,
        "ended_before": done.before,
        "held_micro_cents": done.held_micro_cents,
    }
    text = f"{kept.stack} is kept until {moment_text(kept.keep_until)}, not {moment_text(done.before)}.\nHeld: {held}\n"
    terminal.emit(document, text)
