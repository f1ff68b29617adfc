"""How a teardown receipt looks: what there was, the proof that it is gone, and what it cost."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from grafos_cli.fictional import amount_text
from grafos_cli.tables import facts, short_id, table
from grafos_core.money import cents

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.receipts import TeardownReceipt
    from grafos_stacks.teardown import TornDownCell

UNKNOWN = "unknown"
"""A cost of which the ledger that held for it is lost."""


def receipt_text(torn: TornDownCell, terminal: Terminal) -> str:
    """The receipt for people."""
    receipt = torn.receipt
    proofs = {_without_time(one.proof) for one in receipt.resources}
    alike = len(proofs) == 1
    head = ("KIND", "ID", "STATE") if alike else ("KIND", "ID", "STATE", "PROOF")
    rows = [
        [one.kind, short_id(one.id), "gone" if one.gone else "LEFT", one.proof][: len(head)]
        for one in receipt.resources
    ]
    left = terminal.paint("green" if not receipt.left else "red", f"{receipt.left} left")
    lines = [
        ("cell", f"{receipt.cell_id} on {receipt.provider} {receipt.region}, account {receipt.account}"),
        ("resources", f"{len(receipt.resources)} removed, {left}"),
        *([("proof", f"of each: {proofs.pop()}")] if alike else []),
        ("machine time", f"{receipt.machine_seconds:.1f} s"),
        ("cost", f"{cost_text(receipt)} of {_amount(receipt.held_micro_cents, receipt)} held"),
        ("runs", f"{receipt.runs_brought_home} brought home, budget {receipt.settlement}"),
        *([("identity", receipt.identity)] if receipt.identity else []),
        ("signed by", f"fabric {receipt.fabric}, {base64.b64encode(torn.signed.signature).decode()[:24]}…"),
    ]
    return table(head, rows, terminal) + "\n" + facts(lines, terminal)


def cost_text(receipt: TeardownReceipt) -> str:
    """What the cell cost. A machine that ran under a hold which this ledger does not have has a price nobody knows."""
    if receipt.machine_seconds and not receipt.held_micro_cents:
        return UNKNOWN
    return _amount(receipt.cost_micro_cents, receipt)


def _amount(micro_cents: int, receipt: TeardownReceipt) -> str:
    return amount_text(micro_cents, fictional=receipt.emulated)


def _without_time(proof: str) -> str:
    """The proofs of one teardown differ by seconds at most; the document has the moment of each."""
    return re.sub(r" at \d{4}-\d\d-\d\dT[0-9:+.]+", "", proof)


def receipt_document(torn: TornDownCell) -> dict[str, object]:
    """The receipt for programs, with its signature."""
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(torn.receipt)
    found["cost_cents"] = cents(torn.receipt.cost_micro_cents)
    found["signed"] = msgspec.to_builtins(torn.signed)
    return found
