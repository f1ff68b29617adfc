"""How a machine that runs becomes a cell that obeys: its software, its claim, its terms, its tenant, its readiness.

Every step asks first whether it was done before, and may be repeated. Nothing on the way needs to be trusted until the
claim: the machine takes only the bundle that it was born with, and the claim proves both sides to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from grafos_core import ledger as ledgers
from grafos_core.changes import Batch
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric, tenant_account
from grafos_core.receipts import BudgetSlice
from grafos_scheduler.claiming_client import claim
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.messages import CellView, ClaimGrant, TenantRequest, Terms
from grafos_scheduler.regaining_client import OwnerClient, voucher_of
from grafos_stacks.door import TLS, knock, push
from grafos_stacks.progress import BEGUN, DONE, WAITING, Progress, Step, unheard
from grafos_stacks.records import CellHome, tenant_name

SOFTWARE_PATIENCE_S = 300.0
"""From a running machine to its open door: booting, and the operating system's own first-start work."""
CLAIM_PATIENCE_S = 90.0
READY_PATIENCE_S = 60.0
ASK_EVERY_S = 0.1
LOOK_EVERY_S = 5.0
"""How often to look whether the machine still lives while nobody answers."""

Console = Callable[[], str]
"""The tail of the machine's console; raises ``cell_gone`` when the machine ended."""


@dataclass(frozen=True)
class Handover:
    """One cell that is being taken over. ``url`` is where its scheduler will answer, over TLS."""

    fabric: Fabric
    home: CellHome
    url: str
    clock: Clock
    sleep: Callable[[float], object]
    console: Console
    progress: Progress = unheard

    def bring_software(self, bundle: Callable[[str], Path]) -> None:
        """Waits for the machine's door and brings the bundle that it asks for; returns once software is behind it."""
        began = looked = self.clock.monotonic()
        self._tell("boot", BEGUN, began)
        while (wanted := knock(self.url)) != TLS:
            now = self.clock.monotonic()
            if wanted:
                self._tell("boot", DONE, began)
                if self._push(wanted, bundle(wanted)):
                    return
            elif now - began > SOFTWARE_PATIENCE_S:
                raise self._not_ready("the machine runs, but nothing answers on it", self.console())
            elif now - looked > LOOK_EVERY_S:
                looked = now
                self.console()
            self._tell("boot", WAITING, began)
            self.sleep(ASK_EVERY_S)
        self._tell("boot", DONE, began)

    def _push(self, sha256: str, path: Path) -> bool:
        """Whether it arrived; a broken connection is tried anew."""
        began = self.clock.monotonic()
        self._tell("software", BEGUN, began, f"{path.stat().st_size / 1e6:.1f} MB")
        try:
            push(self.url, path)
        except GrafosError as error:
            if error.code != "cell_not_ready":
                raise
            self._tell("software", WAITING, began, error.why)
            return False
        self._tell("software", DONE, began, sha256[:12])
        return True

    def take_possession(self, secret: bytes, operator: str) -> None:
        """Claims the cell and pins its CA; a claim whose answer was lost is repeated with the same request."""
        if self.home.is_granted(operator):
            return
        began = self.clock.monotonic()
        self._tell("claim", BEGUN, began)
        asked = partial(
            claim,
            self.url,
            secret,
            fabric=str(self.fabric.id),
            fabric_key_pem=self.fabric.public_key_pem,
            operator=operator,
            csr_pem=self.home.request_for(operator),
            cell_id=self.home.cell_id,
        )
        grant = self._once_up(asked, began)
        self.home.pin_ca(grant.ca_pem)
        self.home.keep_grant(operator, grant.certificate_pem, grant.api_token)
        self._tell("claim", DONE, began)

    def _once_up(self, ask: Callable[[], ClaimGrant], began: float) -> ClaimGrant:
        """Asks until the scheduler is up."""
        while True:
            try:
                return ask()
            except GrafosError as error:
                if error.code != "scheduler_unreachable":
                    raise
                if self.clock.monotonic() - began > CLAIM_PATIENCE_S:
                    raise self._not_ready("the cell's scheduler does not start", self.console()) from error
            self._tell("claim", WAITING, began)
            self.sleep(ASK_EVERY_S)

    def hand_in_voucher(self, client: OwnerClient) -> None:
        """What proves the cell to another home of the fabric, if this one is lost."""
        fabric, home = self.fabric, self.home
        try:
            client.keep_voucher(voucher_of(fabric.sign, str(fabric.id), home.cell_id, home.newest_ca_pem))
        except GrafosError as error:
            if error.code not in ("not_found", "unsupported"):  # its software is of before there was that
                raise

    def register_tenant(self, client: SchedulerClient, tenant: str, budget: ledgers.Hold) -> None:
        """Gives the cell a tenant with its slice of the budget, and keeps the tenant's credentials."""
        who = tenant_name(tenant)
        if self.home.is_granted(who):
            return
        began = self.clock.monotonic()
        self._tell("tenant", BEGUN, began)
        signed = self.fabric.sign(
            BudgetSlice(
                fabric=str(self.fabric.id),
                slice_id=budget.hold_id,
                scheduler=self.home.cell_id,
                tenant=tenant,
                amount_micro_cents=budget.amount_micro_cents,
                expires_at=budget.expires_at,
            )
        )
        granted = client.register_tenant(TenantRequest(tenant, self.home.request_for(who), signed))
        self.home.keep_grant(who, granted.certificate_pem, granted.api_token)
        self._tell("tenant", DONE, began)

    def wait_ready(self, client: SchedulerClient) -> CellView:
        """The cell with all six signals met, or ``cell_not_ready`` with those that are not."""
        began = self.clock.monotonic()
        self._tell("ready", BEGUN, began)
        while True:
            cells = client.cells()
            if cells and cells[0].ready:
                self._tell("ready", DONE, began)
                return cells[0]
            unmet = unmet_signals(cells)
            if self.clock.monotonic() - began > READY_PATIENCE_S:
                raise self._not_ready(f"the cell is not ready: {'; '.join(unmet)}", self.console(), unmet)
            self._tell("ready", WAITING, began, ", ".join(signal.partition(":")[0] for signal in unmet))
            self.sleep(ASK_EVERY_S)

    def _not_ready(self, what: str, console: str, unmet: list[str] | None = None) -> GrafosError:
        tail = "\n".join(console.strip().splitlines()[-12:])
        return GrafosError(
            "cell_not_ready",
            what,
            where=f"{self.home.cell_id} at {self.url}",
            why=f"its console ends with:\n{tail}" if tail else "its console says nothing yet",
            next="run the same command again: it goes on; or tear the cell down",
            context={"unmet": unmet or []},
        )

    def _tell(self, name: str, state: str, began: float, note: str = "") -> None:
        self.progress(Step(name, state, self.clock.monotonic() - began, note))


class Possession(NamedTuple):
    """Who takes the cell over, with which one-time secret, on what terms, for which tenant with which slice."""

    secret: bytes
    operator: str
    terms: Terms
    tenant: str
    budget: ledgers.Hold


def take_over(handover: Handover, possession: Possession) -> CellView:
    """From a scheduler that starts to a cell that is ready: claim, terms, tenant, readiness."""
    handover.take_possession(possession.secret, possession.operator)
    home = handover.home
    with home.open_client(OwnerClient, possession.operator, handover.url, CLAIM_PATIENCE_S) as client:
        client.set_terms(possession.terms)
        handover.hand_in_voucher(client)
        handover.register_tenant(client, possession.tenant, possession.budget)
        return handover.wait_ready(client)


class SliceWanted(NamedTuple):
    """A slice of a tenant's budget for one scheduler; ``most_micro_cents`` is what it can spend at all."""

    slice_id: str
    scheduler: str
    tenant: str
    most_micro_cents: int
    expires_at: float


def hold_slice(fabric: Fabric, clock: Clock, wanted: SliceWanted) -> ledgers.Hold:
    """Cuts the slice, or as much as is left of the budget; the same slice whenever it is asked for again."""
    run_out = partial(ledgers.expire, now=clock.now())
    booked = fabric.book(lambda ledger: ledgers.in_turn(ledger, (run_out, partial(_cut, wanted=wanted))))
    return booked.holds[wanted.slice_id]


def _cut(ledger: ledgers.Ledger, wanted: SliceWanted) -> Batch:
    known = ledger.holds.get(wanted.slice_id)
    if known is not None and known.state == ledgers.OPEN:
        return ()  # though there may be more left now than when it was cut
    account = ledger.account(tenant_account(wanted.tenant))
    return ledgers.hold(
        ledger,
        wanted.slice_id,
        account.name,
        max(0, min(wanted.most_micro_cents, account.free_micro_cents)),
        f"runs of {wanted.tenant} on {wanted.scheduler}",
        slice_for=wanted.scheduler,
        expires_at=wanted.expires_at,
    )


def unmet_signals(cells: list[CellView]) -> list[str]:
    """Each readiness signal that is not met, with its reason."""
    if not cells:
        return ["no cell has registered yet"]
    return [f"{name}: {signal.why}" for name, signal in cells[0].readiness.items() if not signal.met]
