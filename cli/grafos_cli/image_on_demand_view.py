"""How it looks what `grafos cloud provision --image bake` is about to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grafos_cli.image_on_demand import Ahead
    from grafos_cli.planning import Planned
    from grafos_cli.terminal import Terminal


def ahead_text(ahead: Ahead, work: Planned, terminal: Terminal) -> str:
    """The cells' plan, then the image's: each step with its time, and the price of keeping it."""
    from grafos_cli.fictional import amount_text
    from grafos_cli.moments import moment_text
    from grafos_cli.plan_view import planned_text
    from grafos_cli.tables import facts, table

    asked = ahead.publication

    def amount(micro_cents: int) -> str:
        return amount_text(micro_cents, fictional=asked.price.fictional)

    rows = [[step.name, f"about {step.seconds:.0f} s" if step.seconds else "-", step.how] for step in ahead.steps]
    lines = [("together", f"about {sum(step.seconds for step in ahead.steps):.0f} s")]
    if ahead.published is None:
        lines += [
            ("image kept until", moment_text(asked.keep_until)),
            ("price of keeping", f"{amount(asked.price.per_gib_month)} for a GiB and month ({asked.price.source})"),
            ("held for it", f"{amount(ahead.most_micro_cents)} at most, without {' and '.join(asked.bill.excluded)}"),
        ]
    else:
        lines += [("image kept until", f"{moment_text(ahead.published.keep_until)}; it is paid for")]
    steps = table(("STEP", "TAKES", "HOW"), rows, terminal)
    return f"{planned_text(work, terminal)}\n{steps}\n{facts(lines, terminal)}"


def ahead_document(ahead: Ahead, work: Planned) -> dict[str, Any]:
    """The same for programs. The SHA-256 is empty until it is baked."""
    from grafos_cli.plan_view import planned_document

    asked = ahead.publication
    image = {
        "sha256": asked.disk.sha256,
        "arch": asked.disk.arch,
        "size_bytes": asked.disk.size_bytes,
        "published": ahead.published.stack if ahead.published else "",
        "ends_at": ahead.published.keep_until if ahead.published else asked.keep_until,
        "held_micro_cents": ahead.most_micro_cents,
        "steps": [step._asdict() for step in ahead.steps],
    }
    return {**planned_document(work), "dry_run": True, "image": image}
