"""Speaks to an orchestrator: what it answers beyond a standalone cell's scheduler, and how a machine enrols."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from msgspec.structs import replace

from grafos_core.booking import Booking, LedgerCopy
from grafos_core.changes import Batch, Change
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.ledger import ACCOUNT, HOLD, Ledger
from grafos_core.ledger_merge import open_holds
from grafos_core.resources import Resources
from grafos_scheduler.account_client import AccountClient, let_in
from grafos_scheduler.console.messages import ConsoleLink
from grafos_scheduler.enrolment_messages import (
    Attestation,
    AttestationRoots,
    AttestationRootsView,
    BootstrapGrant,
    BootstrapRequest,
    CellCredentials,
    CellRevocation,
    EnrolmentRequest,
    ExpectedCell,
    ExpectedCellView,
    ExpectedMachine,
    IdentityView,
    ProviderList,
    ProviderView,
    RenewalRequest,
)
from grafos_scheduler.image_messages import ImageDemand, ImageDemandView
from grafos_scheduler.ledger_messages import LedgerClosing, LedgerMove, LedgerPage, LedgerRows, LedgerView
from grafos_scheduler.machine_messages import BACKUP_BYTES_MAX, MachineOrders, MachineView, RestoreTaken
from grafos_scheduler.messages import CellView, Conformance, TenantGrant, TenantView, Terms
from grafos_scheduler.regaining_client import OwnerClient
from grafos_scheduler.standing_messages import ProductionMark, TrialRequest
from grafos_scheduler.tenant_messages import TenantAsked, TenantBudget, TenantRules
from grafos_scheduler.wire import TIMEOUT_S, decode

LEDGER_READS_MAX = 10
"""A ledger of one page is read at once; one of more anew when somebody books meanwhile."""
SYNC_S_MAX = 60.0
"""How much longer than any other answer that to a bundle may take: it is on disk first."""


class OrchestratorClient(AccountClient, OwnerClient):
    """One caller's way to an orchestrator; see ``SchedulerClient``."""

    # --- operator ---

    def bootstrap(self, request: BootstrapRequest) -> BootstrapGrant:
        """A token with which one cell may enrol, once and soon."""
        return self._call("POST", "/api/v1/account/provider-bootstrap", BootstrapGrant, request)

    def expect_cell(self, request: ExpectedCell) -> ExpectedCellView:
        """Lets one machine enrol by its cloud's word; name the machine when the cloud has told it."""
        return self._call("POST", "/api/v1/account/expected-cells", ExpectedCellView, request)

    def name_machine(self, expectation_id: str, machine_id: str) -> ExpectedCellView:
        """Tells which machine an expected cell is."""
        path = f"/api/v1/account/expected-cells/{_in_path(expectation_id)}/machine"
        return self._call("PUT", path, ExpectedCellView, ExpectedMachine(machine_id))

    def set_attestation_roots(self, provider: str, roots: AttestationRoots) -> AttestationRootsView:
        """Sets what this cloud's word is verified with, in place of all that was set before."""
        return self._call("PUT", f"/api/v1/admin/attestation-roots/{_in_path(provider)}", AttestationRootsView, roots)

    def attestation_roots(self, provider: str) -> AttestationRootsView:
        return self._get(f"/api/v1/admin/attestation-roots/{_in_path(provider)}", AttestationRootsView)

    def demand_images(self, digests: tuple[str, ...]) -> ImageDemandView:
        """Says which images cells must be of, in place of what was said before; of any, if there is none."""
        return self._call("PUT", "/api/v1/admin/cell-images", ImageDemandView, ImageDemand(digests))

    def demanded_images(self) -> ImageDemandView:
        """Which images cells must be of, and who is not."""
        return self._get("/api/v1/admin/cell-images", ImageDemandView)

    def revoke_cell(self, cell_id: str, *, why: str, grace_s: float = 30.0, drain_s: float = 0.0) -> IdentityView:
        """Takes the cell's identity back; ask again with the same call to see how far that is."""
        asked = CellRevocation(why, grace_s, drain_s)
        return self._call("POST", f"/api/v1/cells/{_in_path(cell_id)}/revoke", IdentityView, asked)

    def set_cell_terms(self, cell_id: str, terms: Terms) -> Terms:
        """Records what an enrolled cell costs and when it must be gone."""
        return self._call("PUT", f"/api/v1/cells/{_in_path(cell_id)}/terms", Terms, terms)

    def make_console_link(self) -> ConsoleLink:
        """What signs one browser in to the web console, once and soon."""
        return self._call("POST", "/api/v1/admin/console-links", ConsoleLink)

    def providers(self) -> list[ProviderView]:
        return self._get("/api/v1/providers", ProviderList).providers

    def provider(self, name: str) -> ProviderView:
        """One provider; ``not_found`` for one that is neither enabled nor has a cell."""
        return self._get(f"/api/v1/providers/{_in_path(name)}", ProviderView)

    def mark_production(self, provider: str, *, production: bool) -> ProviderView:
        """Says whether the provider's cells must have passed the conformance suite."""
        path = f"/api/v1/providers/{_in_path(provider)}/production"
        return self._call("PUT", path, ProviderView, ProductionMark(production))

    def open_trial(self, cell_id: str, tenant: str, for_s: float) -> CellView:
        """Lets a tenant try a cell that is barred from other runs."""
        path = f"/api/v1/cells/{_in_path(cell_id)}/trial"
        return self._call("POST", path, CellView, TrialRequest(tenant, for_s))

    def report_conformance(self, cell_id: str, said: Conformance) -> Conformance:
        """Records what the suite said of a cell; gives it with the day and the cell's version."""
        return self._call("PUT", f"/api/v1/cells/{_in_path(cell_id)}/conformance", Conformance, said)

    def create_tenant(self, asked: TenantAsked) -> TenantGrant:
        """Creates a tenant, or has a further key of one signed."""
        return self._call("POST", "/api/v1/admin/tenants", TenantGrant, asked)

    def delete_tenant(self, name: str) -> TenantView:
        """Ends the tenant, and gives it as it was, also when it is ended already; ``tenant_in_use`` while it has
        leases or runs."""
        return self._call("DELETE", f"/api/v1/admin/tenants/{_in_path(name)}", TenantView)

    def clear_tenant(self, name: str) -> TenantView:
        """Ends all that the tenant has; it is gone once its cells have said so."""
        return self._call("POST", f"/api/v1/admin/tenants/{_in_path(name)}/clear", TenantView)

    def set_quota(self, name: str, quota: Resources) -> TenantView:
        """Sets what the tenant may lease at once."""
        return self._call("PUT", f"/api/v1/admin/tenants/{_in_path(name)}/quota", TenantView, quota)

    def set_budget(self, name: str, budget_cents: int) -> TenantView:
        """Sets what the tenant may spend in all, spent money included."""
        path = f"/api/v1/admin/tenants/{_in_path(name)}/budget"
        return self._call("PUT", path, TenantView, TenantBudget(budget_cents))

    def set_rules(self, name: str, rules: TenantRules) -> TenantView:
        """Sets by what rules the tenant's runs are taken."""
        return self._call("PUT", f"/api/v1/admin/tenants/{_in_path(name)}/rules", TenantView, rules)

    def ledger(self) -> tuple[LedgerView, Ledger]:
        """How the fabric's ledger stands there, and the ledger of one moment, without the holds of runs."""
        pages = self._ledger_pages()
        return pages[-1].ledger, _ledger_of(pages)

    def ledger_without_runs(self) -> tuple[LedgerView, Ledger]:
        """The same less what runs hold there, and spent there since the ledger came: as a home's copy tells it."""
        pages = self._ledger_pages()
        ledger, spent_here = _ledger_of(pages), pages[-1].spent_here
        held = open_holds(ledger.holds.values())
        for name, account in ledger.accounts.items():
            spent = account.spent_micro_cents - spent_here.get(name, 0)
            ledger.accounts[name] = replace(account, spent_micro_cents=spent, held_micro_cents=held.get(name, 0))
        return pages[-1].ledger, ledger

    def _ledger_pages(self) -> list[LedgerPage]:
        """All pages, of one moment."""
        for _ in range(LEDGER_READS_MAX):
            pages = [self._ledger_page("")]
            while pages[-1].next and pages[-1].ledger == pages[0].ledger:
                pages.append(self._ledger_page(pages[-1].next))
            if pages[-1].ledger == pages[0].ledger:
                return pages
        raise GrafosError("ledger_conflict", "others book faster than the ledger can be read", next="try again")

    def book(self, booking: Booking) -> Batch:
        """Books what was decided on the ledger as it was read, and gives the rows that it touched as they are now;
        ``ledger_conflict`` when it is to be decided anew."""
        rows = self._call("POST", "/api/v1/ledger", LedgerRows, booking)
        accounts = (Change(ACCOUNT, account.name, account) for account in rows.accounts)
        return (*accounts, *(Change(HOLD, held.hold_id, held) for held in rows.holds))

    def take_ledger(self, copy: LedgerCopy, digest: str) -> LedgerView:
        """Moves the fabric's ledger there; ``ledger_elsewhere`` if another one is there, or was since."""
        return self._call("PUT", "/api/v1/ledger", LedgerView, LedgerMove(copy, digest))

    def close_ledger(
        self, generation: int, *, spend_running: bool = False, fetch: str = "", take_over: bool = False
    ) -> LedgerView:
        """Closes it there, so that it may come to the home that drew ``fetch``; ask again until it is closed.
        ``ledger_elsewhere`` when it goes to another home, unless it is to be taken over from that one."""
        asked = LedgerClosing(generation, spend_running, fetch, take_over)
        return self._call("POST", "/api/v1/ledger/close", LedgerView, asked)

    def _ledger_page(self, after: str) -> LedgerPage:
        query = "?" + urlencode({"after": after}) if after else ""
        return self._get(f"/api/v1/ledger{query}", LedgerPage)

    def put_bundle(self, data: bytes) -> str:
        """Uploads a software bundle if it is not there yet; gives its SHA-256."""
        sha256 = sha256_of(data)
        path = f"/api/v1/bundles/{sha256}"
        try:
            self._exchange("HEAD", path, None)
        except GrafosError as error:
            if error.code != "not_found":
                raise
            self._exchange("PUT", path, data, SYNC_S_MAX)
        return sha256

    def backup(self) -> bytes:
        """A backup of the orchestrator, unsealed: whoever has it can be the orchestrator."""
        return self._exchange("GET", "/api/v1/admin/backup", None, SYNC_S_MAX, BACKUP_BYTES_MAX)

    def restore(self, archive: bytes) -> RestoreTaken:
        """Fills this orchestrator, which nobody uses yet; it starts anew, under the CA that the backup has."""
        return decode(self._exchange("PUT", "/api/v1/admin/backup", archive, SYNC_S_MAX), RestoreTaken)

    def machine(self) -> MachineView:
        """How the machine stands; ``unsupported`` where grafos did not make it."""
        return self._get("/api/v1/admin/machine", MachineView)

    def order_machine(self, orders: MachineOrders) -> MachineView:
        """Gives the machine orders; ask again for what came of them."""
        return self._call("PUT", "/api/v1/admin/machine", MachineView, orders)

    # --- cells ---

    def renew(self, csr_pem: str) -> CellCredentials:
        """The same identity for longer; the request is for the key that the caller's certificate has."""
        return self._call("POST", "/api/v1/cells/renew", CellCredentials, RenewalRequest(csr_pem))


def enrol(
    url: str,
    ca_pem: str,
    token: str,
    csr_pem: str,
    *,
    attestation: Attestation | None = None,
    timeout_s: float = TIMEOUT_S,
) -> CellCredentials:
    """Makes the holder of the request's key a cell of the orchestrator at ``url``, whose CA was pinned before.

    With an ``attestation`` the token is empty. The request's common name is the cell id. Keep the request and repeat
    this with it when the answer was lost. ``enrolment_refused``, ``enrolment_expired``, ``attestation_refused``,
    ``certificate_refused`` for another server, ``scheduler_unreachable``.
    """
    asked = EnrolmentRequest(token, csr_pem, attestation)
    return let_in(url, ca_pem, "/api/v1/cells/enroll", asked, CellCredentials, timeout_s)


def _ledger_of(pages: list[LedgerPage]) -> Ledger:
    ledger = Ledger()
    ledger.accounts = {account.name: account for account in pages[-1].accounts}
    ledger.holds = {held.hold_id: held for page in pages for held in page.holds}
    return ledger


def _in_path(name: str) -> str:
    return quote(name, safe="")
