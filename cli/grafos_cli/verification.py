"""Whether a receipt holds: signed by the cell that it names, under the CA that was pinned when the cell or its
orchestrator was claimed, and about these very bytes."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import msgspec

from grafos_cli.order_checks import Check, order_checks
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.guest import open_guest
from grafos_core.ids import check_name
from grafos_core.receipts import RunReceipt, open_signed_by_cell
from grafos_scheduler import messages
from grafos_stacks.orchestrators import OrchestratorHome


def verify(left: messages.Artifacts, fabric: Fabric, project: Path) -> tuple[RunReceipt, list[Check]]:
    """The receipt and what was checked, or ``identity_not_pinned`` / ``receipt_invalid`` for the first that fails."""
    fabric = whose(left, fabric)
    receipt = open_signed_by_cell(left.receipt, RunReceipt, pinned_ca(fabric, left.run.cell_id), "ended_at")
    checks = [Check("signature", f"cell {receipt.cell_id}, certificate issued by its pinned CA")]
    _same("run", receipt.run_id, left.run.run_id)
    _same("fabric", receipt.fabric, fabric.id)
    checks.append(Check("run", f"{receipt.run_id} of fabric {receipt.fabric}"))
    _same("end", receipt.code, "finished" if left.run.state == "finished" else left.run.code)
    _same("response", receipt.response_sha256, _sha256(left.response_json.encode()))
    _same("output", receipt.output_sha256, _sha256(base64.b64decode(left.output_b64)))
    checks.append(Check("response", f"SHA-256 {receipt.response_sha256[:16]}…"))
    checks.append(Check("output", f"SHA-256 {receipt.output_sha256[:16]}…"))
    _same("input", receipt.input_sha256, left.run.input_sha256)
    checks.append(Check("input", f"SHA-256 {receipt.input_sha256[:16]}…" if receipt.input_sha256 else "the context"))
    checks.append(_module(receipt, left.run, project))
    if not _claimed_ca(fabric, receipt.cell_id).exists():
        checks += order_checks(left, receipt, fabric)
    return receipt, checks


def whose(left: messages.Artifacts, fabric: Fabric) -> Fabric:
    """The fabric whose CA is to have issued the signer's certificate: that of the account that is signed in, where the
    receipt says that it ran there. What it says is proved after that."""
    guest = open_guest()
    said = msgspec.json.decode(left.receipt.body, type=_Said)
    return guest if guest is not None and said.fabric == guest.id else fabric


class _Said(msgspec.Struct):
    fabric: str = ""


def pinned_ca(fabric: Fabric, cell_id: str) -> str:
    """The CA that was pinned when the cell was claimed, else the one of the fabric's orchestrator, where cells enrol;
    ``identity_not_pinned`` when there is neither."""
    claimed = _claimed_ca(fabric, cell_id)
    enrolled = OrchestratorHome(fabric).ca_file
    try:
        return (claimed if claimed.exists() else enrolled).read_text()
    except OSError as error:
        raise GrafosError(
            "identity_not_pinned",
            f"This fabric has no pinned CA of cell {cell_id[:60]!r}, and none of an orchestrator",
            where=str(fabric.home),
            next="verify where the cell or its orchestrator was claimed: that fabric's home has the CA",
        ) from error


def _claimed_ca(fabric: Fabric, cell_id: str) -> Path:
    """Where the CA of a cell is that was claimed by itself."""
    return fabric.home / "cells" / check_name("cell", cell_id) / "ca.pem"


def _module(receipt: RunReceipt, view: messages.RunView, project: Path) -> Check:
    """The module's digest, and the bytes themselves where they are here."""
    _same("module", receipt.module_sha256, view.module_sha256)
    path = project / ".grafos" / "tasklets" / f"{receipt.module_sha256}.wasm"
    if not path.is_file():
        return Check("module", f"SHA-256 {receipt.module_sha256[:16]}…")
    _same("module", receipt.module_sha256, _sha256(path.read_bytes()))
    return Check("module", f"SHA-256 {receipt.module_sha256[:16]}…, the same bytes as built here")


def _same(name: str, signed: str, seen: str) -> None:
    if signed != seen:
        raise GrafosError(
            "receipt_invalid",
            f"The {name} is not the one that the cell signed",
            why=f"signed {signed!r}, seen {seen!r}",
            next="do not trust this answer; run it again on another cell",
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
