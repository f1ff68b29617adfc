"""Many people who deploy at once, against one small budget, and what must be true of it all afterwards.

Each asks for its run under a key of its own until it is told something final: the end of the run, or a refusal. The
cells are played (``played_cells``), the schedulers are real processes, and everything between them is real TLS.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

from orchestrator import Orchestrator
from played_cells import Cells
from standalone import Identity

from grafos_core import receipts
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import CODES, GrafosError
from grafos_core.money import MICRO_CENTS_PER_CENT, cost_micro_cents
from grafos_core.resources import Resources
from grafos_scheduler import messages, runs
from grafos_scheduler.audit_messages import AUDIT_PAGE_MAX, AuditQuery
from grafos_scheduler.orchestrator_client import OrchestratorClient

CLOUDS = ("aws", "gcp", "azure")
PLAYED = Resources(cpu_cores=100, mem_bytes=1 << 40, block_bytes=1 << 40)
PLENTY = Resources(cpu_cores=10_000, mem_bytes=1 << 50)
DEADLINE_S = 10.0
PRICES = dict(zip(CLOUDS, (1, 2, 3), strict=True))
"""Cents for one core until the deadline. So all worst cases of a crowd of 200 come to 400 cents."""
MODULE = b"a module that nobody runs"
PATIENCE_S = 90.0
LOOK_EVERY_S = 0.02
TENANT = "acme"


class Crowd:
    """``doors`` are the schedulers that are asked, in turn; one of them is never killed."""

    cores = PLAYED.cpu_cores
    module = MODULE

    def __init__(
        self, doors: Sequence[Orchestrator], operator: Identity, budget_cents: int, *, cells_dial: str = ""
    ) -> None:
        self.doors, self.operator, self.budget_cents = doors, operator, budget_cents
        self.tenant = doors[0].employ(operator, TENANT, quota=PLENTY, budget_cents=budget_cents)
        self.cells = self._join(cells_dial)
        self.asked: dict[str, messages.RunRequest] = {}
        self.acknowledged: dict[str, str] = {}
        self.ends: dict[str, messages.RunView] = {}
        self.refused: dict[str, GrafosError] = {}
        self.bugs: list[BaseException] = []
        self.most_micro_cents = 0
        self.gives_up_s = PATIENCE_S
        """How long somebody asks again who is refused for what may pass."""
        self.refusals = {"budget_exceeded"}
        self._over = threading.Event()

    def _join(self, cells_dial: str) -> Cells:
        members = [self.doors[0].joined(self.operator, f"{cloud}-crowd", cloud) for cloud in CLOUDS]
        for n, member in enumerate(members):
            member.at = self._door(n)
        return Cells(members, PLAYED, url=cells_dial)

    def _rate(self, cloud: str) -> int:
        """Micro-cents an hour of a cell there."""
        return round(PRICES[cloud] * self.cores * MICRO_CENTS_PER_CENT * 3600 / DEADLINE_S)

    def wait_ready(self) -> None:
        with self.doors[-1].client(self.operator, patience_s=PATIENCE_S) as boss:
            until(lambda: sum(cell.ready for cell in boss.cells()) == len(CLOUDS))
            for cloud in CLOUDS:
                boss.set_cell_terms(f"{cloud}-crowd", messages.Terms(self._rate(cloud)))
        with self.doors[-1].client(self.tenant, patience_s=PATIENCE_S) as client:
            self.sha256 = client.put_blob(self.module)

    def deploy(self, count: int, blow: Callable[[], None], *, blow_after: int) -> None:
        """So many deploys at once; the blow falls when so many of them have been acknowledged."""
        people = [threading.Thread(target=self._guarded, args=(self._deploy, n)) for n in range(count)]
        watching = threading.Thread(target=self._guarded, args=(self._watch,))
        for thread in (watching, *people):
            thread.start()
        until(lambda: len(self.acknowledged) >= blow_after or self.bugs)
        blow()
        for person in people:
            person.join()
        self._over.set()
        watching.join()
        assert not self.bugs, self.bugs

    def close(self) -> None:
        self._over.set()
        self.cells.close()

    # --- who asks ---

    def _guarded(self, work: Callable[..., None], *given: int) -> None:
        try:
            work(*given)
        except BaseException as bug:  # noqa: BLE001  # told by the thread that waits for this one
            self.bugs.append(bug)

    def _deploy(self, number: int) -> None:
        chance, again = random.Random(number), 0
        with self._door(number).client(self.tenant, patience_s=PATIENCE_S) as client:
            while True:
                # A person who was refused for money asks again, and that is another run.
                asked = self._request(number, again)
                if self._ask(client, asked, chance) or (again := again + 1) > 2:
                    return
                time.sleep(chance.uniform(0.2, 1.0))

    def _ask(self, client: OrchestratorClient, asked: messages.RunRequest, chance: random.Random) -> bool:
        """Until the run has ended, or is refused for good; whether it was taken."""
        key = asked.run_key
        self.asked[key] = asked
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE_S:
            try:
                view = client.start_run(asked)
                before = self.acknowledged.setdefault(key, view.run_id)
                assert before == view.run_id, f"{key} is two runs"
                while view.state in runs.UNDER_WAY:
                    view = client.run(view.run_id, wait_s=5.0)
            except GrafosError as error:
                is_patient = key in self.acknowledged or time.monotonic() < began + self.gives_up_s
                if error.retryable and is_patient:
                    time.sleep(chance.uniform(0.02, 0.2))
                    continue
                self.refused[key] = error
                return False
            self.ends[key] = view
            return True
        raise AssertionError(f"{key} was told nothing in {PATIENCE_S} s")

    def _request(self, number: int, again: int) -> messages.RunRequest:
        cloud = CLOUDS[number % len(CLOUDS)]
        key = f"crowd-{number:06d}-{again:04d}"
        return messages.RunRequest(key, cloud, "crowd", "main", self.sha256, "", deadline_s=DEADLINE_S)

    def _door(self, number: int) -> Orchestrator:
        return self.doors[number % len(self.doors)]

    def _watch(self) -> None:
        """The tenant's money, again and again: what is held and spent is never over the budget."""
        with self.doors[-1].client(self.operator, patience_s=PATIENCE_S) as boss:
            while not self._over.is_set():
                try:
                    taken = self._money(boss.tenants())
                except GrafosError as error:
                    if not error.retryable:
                        raise
                    continue
                self.most_micro_cents = max(self.most_micro_cents, taken.held_micro_cents + taken.spent_micro_cents)
                time.sleep(LOOK_EVERY_S)

    def _money(self, tenants: list[messages.TenantView]) -> messages.TenantView:
        return next(tenant for tenant in tenants if tenant.name == TENANT)

    # --- what must be true ---

    def check(self, at: Orchestrator) -> None:
        """Nothing over, nothing lost, nothing twice; prints what came of it."""
        with at.client(self.operator, patience_s=PATIENCE_S) as boss:
            until(lambda: all(run.ended_at for run in boss.all_runs()))
            until(lambda: not boss.leases())
            self._check_runs({run.run_id: run for run in boss.all_runs()})
            self._check_money(self._money(boss.tenants()), list(boss.all_runs()))
            self._check_receipts(boss)
            self._check_audit(boss)
        ends = Counter(f"{view.state} {view.code}".strip() for view in self.ends.values())
        why = Counter(error.code for error in self.refused.values())
        most = self.most_micro_cents / MICRO_CENTS_PER_CENT
        print(f"{len(self.asked)} asked: {dict(ends)}, refused {dict(why)}; at most {most:.2f} of {self.budget_cents}c")

    def _check_runs(self, kept: dict[str, messages.RunView]) -> None:
        assert set(self.asked) == set(self.ends) | set(self.refused), "somebody was told nothing"
        lost = {key: str(self.refused.get(key)) for key in set(self.acknowledged) - set(self.ends)}
        assert not lost, f"acknowledged runs have no end: {lost}"
        assert len(set(self.acknowledged.values())) == len(self.acknowledged), "two keys are one run"
        for view in self.ends.values():
            assert kept[view.run_id] == view, "an end that somebody saw is another one now"
            assert view.state == runs.FINISHED or view.code in CODES, f"{view} has no typed end"
        others = {error.code: str(error) for error in self.refused.values() if error.code not in self.refusals}
        assert not others, f"refused otherwise: {others}"
        twice = {run_id: count for run_id, count in self.cells.started.items() if count > 1}
        assert not twice, f"runs were started twice: {twice}"
        assert set(self.cells.started) <= set(self.acknowledged.values()), "a run that nobody was told of"

    def _check_money(self, money: messages.TenantView, kept: list[messages.RunView]) -> None:
        budget = self.budget_cents * MICRO_CENTS_PER_CENT
        cost = sum(run.cost.micro_cents for run in kept)
        assert money.held_micro_cents == 0, "money is held for nothing"
        assert money.spent_micro_cents == cost, f"{money.spent_micro_cents} spent, and the runs cost {cost}"
        assert self.most_micro_cents <= budget, f"{self.most_micro_cents} of {budget} at one time"
        assert money.spent_micro_cents <= budget
        assert sum(run.cost.micro_cents for run in kept if run.state == runs.REFUSED) == 0

    def _check_audit(self, boss: OrchestratorClient) -> None:
        """The whole log, which the scheduler verifies as it reads, has each run's leases once."""
        noted: Counter[str] = Counter()
        page = boss.audit(AuditQuery(limit=AUDIT_PAGE_MAX))
        while True:
            noted.update(record.subject for record in page.records if record.kind == AuditKind.LEASE_ALLOCATED)
            if not page.more:
                break
            page = boss.audit(AuditQuery(limit=AUDIT_PAGE_MAX, after=page.after))
        assert page.after == page.head_sequence
        assert noted == Counter(self.acknowledged.values()), "leases that nobody asked for, or that nobody noted"

    def _check_receipts(self, boss: OrchestratorClient) -> None:
        """Each finished run costs what its cell signed for, once."""
        ca_pem = self.doors[0].ca_pem
        for view in self.ends.values():
            if view.state != runs.FINISHED:
                continue
            signed = boss.artifacts(view.run_id).receipt
            receipt = receipts.open_signed_by_cell(signed, receipts.RunReceipt, ca_pem, at_field="ended_at")
            assert (receipt.run_id, receipt.tenant, receipt.provider) == (view.run_id, TENANT, view.provider)
            seconds = min(receipt.ended_at - receipt.started_at, DEADLINE_S)
            due = cost_micro_cents(Fraction(1, self.cores), self._rate(view.provider), seconds)
            assert view.cost.micro_cents == due, f"{view} costs something else than {due}"


def until(look: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(LOOK_EVERY_S)
