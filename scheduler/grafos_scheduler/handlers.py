"""What each REST route does, once its caller is known and its input is checked.

A handler turns a request into an event for the shell, or reads state. State is shown only after everything that it
shows is durable: an answer that a crash could take back is never given.
"""

from __future__ import annotations

import base64
import heapq
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

import msgspec

from grafos_core import receipts, trust
from grafos_core.errors import GrafosError
from grafos_core.ids import check_sha256
from grafos_scheduler import (
    ending,
    enrolment,
    events,
    messages,
    order_check,
    rows,
    runs,
    succession,
    tenant_events,
    tenants,
    views,
)
from grafos_scheduler.authorize import CELL, OPERATOR, TENANT, TENANT_RIGHTS, Caller
from grafos_scheduler.blobs import BlobStore
from grafos_scheduler.bundles import BundleStore
from grafos_scheduler.claim import ClaimDesk
from grafos_scheduler.console.sessions import Sessions
from grafos_scheduler.credentials import Credentials
from grafos_scheduler.decide import decide
from grafos_scheduler.enrolling import EnrolmentDesk
from grafos_scheduler.regaining import RegainDesk
from grafos_scheduler.settings import Settings
from grafos_scheduler.shell import Shell
from grafos_scheduler.signing_in import AccountDesk
from grafos_scheduler.state import State


class Services(NamedTuple):
    """What the handlers work with. ``document`` makes the OpenAPI document, which is made from the routes to them;
    ``sessions_of`` counts the sessions of an instance, by its id; ``renew_link`` has the link of a cell count for
    longer, by the cell, its key and until when, and says whether there is one."""

    settings: Settings
    shell: Shell
    credentials: Credentials
    desk: ClaimDesk
    enrolling: EnrolmentDesk
    accounts: AccountDesk
    regaining: RegainDesk
    blobs: BlobStore
    bundles: BundleStore
    sessions: Sessions
    document: Callable[[], dict[str, Any]]
    sessions_of: Callable[[str], int]
    renew_link: Callable[[str, str, float], bool]


class Stream(NamedTuple):
    """An answer that is sent piece by piece, ``size_bytes`` in all, in ``seconds_max`` or not at all."""

    size_bytes: int
    pieces: AsyncGenerator[bytes]
    seconds_max: float


class Request(NamedTuple):
    """``body`` and ``query`` are of the types that the route's row names; ``client`` is the peer's address."""

    caller: Caller | None
    client: str
    path: dict[str, str]
    query: Any
    body: Any

    @property
    def who(self) -> Caller:
        """The caller of a route that has a gate."""
        assert self.caller is not None, "the route has no gate"
        return self.caller


def check_standing(state: State, caller: Caller) -> None:
    """Whether a proved identity still counts here: it may have been taken back, and its certificate lives on."""
    succession.check_key(state, caller.kind, caller.key_sha256)
    if caller.kind == CELL:
        enrolment.check_key(state, caller.name, caller.key_sha256)
    elif caller.kind == TENANT:
        tenants.check_key(state, caller.name, caller.key_sha256)


async def health(services: Services, _: Request) -> messages.Health:
    from importlib.metadata import version

    settings = services.settings
    return messages.Health(
        settings.scheduler_id, version("grafos-scheduler"), services.desk.is_claimed, mode=settings.mode
    )


async def claim(services: Services, request: Request) -> messages.ClaimGrant:
    return await services.desk.claim(request.body, request.client)


async def openapi(services: Services, _: Request) -> bytes:
    return msgspec.json.encode(services.document())


# --- operator -----------------------------------------------------------------------------------------------------


async def set_terms(services: Services, request: Request) -> messages.Terms:
    terms: messages.Terms = request.body
    event = events.TermsSet(services.settings.scheduler_id, terms.rate_micro_cents_per_hour, terms.expires_at)
    await services.shell.handle(event, by=request.who.text)
    ends_at = ending.tell(services.settings, terms.expires_at)
    return messages.Terms(terms.rate_micro_cents_per_hour, terms.expires_at, ends_at)


async def register_tenant(services: Services, request: Request) -> messages.TenantGrant:
    asked: messages.TenantRequest = request.body
    key_sha256 = trust.key_sha256(trust.csr_key(asked.csr_pem))
    granted = _open_slice(services, asked)
    event = tenant_events.TenantRegistered(
        asked.name, asked.quota, granted.slice_id, granted.amount_micro_cents, granted.expires_at, key_sha256
    )
    await services.shell.handle(event, by=request.who.text)
    return grant_tenant(services, asked.name, asked.csr_pem, key_sha256)


def grant_tenant(services: Services, name: str, csr_pem: str, key_sha256: str) -> messages.TenantGrant:
    """Credentials for the key that the request proves to have."""
    now, credentials = services.shell.clock.now(), services.credentials
    return messages.TenantGrant(
        name,
        credentials.certify(csr_pem, TENANT, name, now),
        credentials.mint_token(TENANT, name, key_sha256, TENANT_RIGHTS, now),
    )


async def list_tenants(services: Services, _: Request) -> messages.TenantList:
    await services.shell.settled()
    state = services.shell.state
    living = [tenant for tenant in state.tenants.values() if not tenant.deleted_at]
    return messages.TenantList([tenants.view(state, tenant) for tenant in living])


async def drain(services: Services, request: Request) -> messages.DrainView:
    asked: messages.DrainRequest = request.body
    event = events.DrainAsked(asked.cell_id, asked.draining)
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, messages.DrainView)
    return answer


async def settle(services: Services, request: Request) -> messages.Settlements:
    """Closes every slice, so that nothing more is held on any, and signs what was spent."""
    signed = []
    for slice_id in list(services.shell.state.slices):
        settlement = await services.shell.handle(tenant_events.SliceClosed(slice_id), by=request.who.text)
        assert isinstance(settlement, receipts.Settlement)
        credentials = services.credentials
        signed.append(receipts.sign_record(settlement, credentials.server_key, credentials.server_pem))
    return messages.Settlements(signed)


def _open_slice(services: Services, asked: messages.TenantRequest) -> receipts.BudgetSlice:
    """The slice, if the fabric that claimed this cell signed it for this tenant at this scheduler."""
    try:
        granted = receipts.open_signed(asked.budget_slice, receipts.BudgetSlice, services.desk.fabric_key)
    except GrafosError as error:
        raise GrafosError(
            "slice_refused", "the budget slice is not signed by this cell's fabric", why=error.what
        ) from error
    settings = services.settings
    if (granted.fabric, granted.scheduler, granted.tenant) != (settings.fabric, settings.scheduler_id, asked.name):
        raise GrafosError(
            "slice_refused",
            f"the budget slice is for tenant {granted.tenant} at scheduler {granted.scheduler} of {granted.fabric}",
        )
    return granted


# --- cells --------------------------------------------------------------------------------------------------------


async def register_cell(services: Services, request: Request) -> messages.CellRegistered:
    asked: messages.CellRegistration = request.body
    caller = request.who
    if (asked.cell_id, asked.provider) != (caller.name, caller.provider):
        raise GrafosError(
            "certificate_refused",
            f"the certificate is for cell {caller.name} of {caller.provider}, "
            f"the registration for {asked.cell_id} of {asked.provider}",
        )
    asked = msgspec.structs.replace(asked, region=asked.region or services.settings.region)
    answer = await services.shell.handle(events.CellRegistered(asked, caller.key_sha256))
    assert isinstance(answer, messages.CellRegistered)
    return answer


async def list_cells(services: Services, _: Request) -> messages.CellList:
    await services.shell.settled()
    state, now = services.shell.state, services.shell.clock.now()
    return messages.CellList([views.cell_view(state, cell, now) for cell in state.cells.values()])


# --- blobs --------------------------------------------------------------------------------------------------------


async def put_blob(services: Services, request: Request) -> messages.BlobStored:
    sha256 = check_sha256(request.path["sha256"])
    await services.blobs.put(request.who.name, sha256, request.body)
    return messages.BlobStored(sha256, len(request.body))


async def head_blob(services: Services, request: Request) -> messages.BlobStored:
    sha256 = check_sha256(request.path["sha256"])
    size = services.blobs.size_of(request.who.name, sha256)
    if size is None:
        raise GrafosError("blob_missing", f"no blob {sha256} was uploaded")
    return messages.BlobStored(sha256, size)


async def get_blob(services: Services, request: Request) -> bytes:
    return await services.blobs.get(request.who.name, check_sha256(request.path["sha256"]))


# --- runs ---------------------------------------------------------------------------------------------------------


async def start_run(services: Services, request: Request) -> messages.RunView:
    asked: messages.RunRequest = request.body
    lacking = _lacking_blob(services, request.who.name, asked)
    if lacking is not None:
        raise lacking
    answer = await services.shell.handle(_ordered(services, request.who, asked))
    assert isinstance(answer, messages.RunView)
    return answer


async def start_runs(services: Services, request: Request) -> messages.BatchedRuns:
    """Each run as ``start_run`` would have it; a refusal stands in its run's place."""
    checked = [_checked(services, request.who, asked) for asked in request.body.runs]
    whole = [each for each in checked if isinstance(each, events.RunRequested)]
    decided = iter(await services.shell.handle_all(whole))
    return messages.BatchedRuns(
        [_batched(each if isinstance(each, GrafosError) else next(decided)) for each in checked]
    )


async def foresee(services: Services, request: Request) -> messages.Admission:
    """Decides as ``start_run`` would, and lets the decision go."""
    nobody_s = msgspec.structs.replace(request.body, run_key="", order=None)
    state, event = services.shell.state, events.RunRequested(request.who.name, nobody_s)
    await services.shell.settled()
    decision = decide(state, event, services.shell.clock.now(), random.Random(0))  # noqa: S311 - no id of it is kept
    if decision.refusal is not None:
        refusal = decision.refusal
        return messages.Admission(admitted=False, code=refusal.code, what=refusal.what, next=refusal.next)
    return views.admission(decision)


async def cancel_run(services: Services, request: Request) -> messages.RunView:
    answer = await services.shell.handle(events.RunCancelAsked(request.who.name, request.path["run_id"]))
    assert isinstance(answer, messages.RunView)
    return answer


async def show_run(services: Services, request: Request) -> messages.RunView:
    query: messages.RunQuery = request.query
    run = _run(services, request)
    await services.shell.wait_for_end(run.run_id, query.wait_s)
    await services.shell.settled()
    check_standing(services.shell.state, request.who)  # who waited may have been put out meanwhile
    return views.run_view(services.shell.state, _run(services, request))


async def list_runs(services: Services, request: Request) -> messages.RunPage:
    query: messages.RunsQuery = request.query
    await services.shell.settled()
    caller, after = request.who, _read_cursor(query.after)
    visible = (
        run
        for run in services.shell.state.runs.values()
        if (caller.kind == OPERATOR or run.tenant == caller.name) and (after is None or _place(run) < after)
    )
    found = heapq.nlargest(query.limit + 1, visible, key=_place)
    page, more = found[: query.limit], found[query.limit :]
    cursor = f"{page[-1].created_at!r}~{page[-1].run_id}" if more else ""
    return messages.RunPage([views.run_view(services.shell.state, run) for run in page], cursor)


async def artifacts(services: Services, request: Request) -> messages.Artifacts:
    run = _run(services, request)
    kept = await kept_artifact(services, request)
    order: rows.Order | None = await services.shell.store.read(rows.ORDER, run.run_id) if run.signed_by else None
    return messages.Artifacts(
        run=views.run_view(services.shell.state, run),
        response_json=kept.response_json,
        output_b64=base64.b64encode(kept.output).decode(),
        log=kept.log,
        receipt=kept.receipt,
        chain_pem=kept.receipt.certificate_pem + services.credentials.ca_pem,
        order=order.order if order else None,
        signing_key_pem=order.signing_key_pem if order else "",
    )


async def kept_artifact(services: Services, request: Request) -> rows.Artifact:
    """What the run that the path names left; ``artifact_missing``."""
    run = _run(services, request)
    await services.shell.settled()
    kept: rows.Artifact | None = await services.shell.store.read(rows.ARTIFACT, run.run_id)
    if kept is None:
        raise GrafosError(
            "artifact_missing",
            f"run {run.run_id} left no artifacts",
            why=f"its state is {run.state}{': ' + run.what if run.what else ''}",
        )
    return kept


def _batched(outcome: msgspec.Struct | GrafosError | None) -> messages.BatchedRun:
    if isinstance(outcome, GrafosError):
        return messages.BatchedRun(error=messages.error_body(outcome))
    assert isinstance(outcome, messages.RunView)
    return messages.BatchedRun(run=outcome)


def _lacking_blob(services: Services, tenant: str, asked: messages.RunRequest) -> GrafosError | None:
    """``blob_missing`` for a run whose module or input was not uploaded, unless it was begun before."""
    for sha256 in (asked.module_sha256, asked.input_sha256):
        if sha256 and services.blobs.size_of(tenant, sha256) is None and not _begun(services, tenant, asked.run_key):
            return GrafosError("blob_missing", f"no blob {sha256} was uploaded", next="upload it, then ask again")
    return None


def _checked(services: Services, caller: Caller, asked: messages.RunRequest) -> events.RunRequested | GrafosError:
    """The run of a batch as an event, or why it is none."""
    try:
        return _lacking_blob(services, caller.name, asked) or _ordered(services, caller, asked)
    except GrafosError as error:
        return error


def _ordered(services: Services, caller: Caller, asked: messages.RunRequest) -> events.RunRequested:
    """The run that is asked for, without its order, which is verified: ``order_refused``."""
    shell = services.shell
    ordered = order_check.check_order(shell.state, caller.name, caller.key_sha256, asked, shell.clock.now())
    return events.RunRequested(caller.name, msgspec.structs.replace(asked, order=None), ordered)


def _begun(services: Services, tenant: str, run_key: str) -> bool:
    """Whether the run with this key was admitted before. What it needed then need not be here any more."""
    state = services.shell.state
    run_id = state.run_by_key.get((tenant, run_key))
    return run_id is not None and state.runs[run_id].state != runs.REFUSED


def _run(services: Services, request: Request) -> rows.Run:
    """The run, if the caller may see it; somebody else's run is as unknown as one that never was."""
    caller, run_id = request.who, request.path["run_id"]
    run = services.shell.state.runs.get(run_id)
    if run is None or (caller.kind != OPERATOR and run.tenant != caller.name):
        raise GrafosError("run_unknown", f"there is no run {run_id[:80]!r} here")
    return run


def _place(run: rows.Run) -> tuple[float, str]:
    """Where a run stands in the list, the newest last."""
    return run.created_at, run.run_id


def _read_cursor(text: str) -> tuple[float, str] | None:
    if not text:
        return None
    created_at, _, run_id = text.partition("~")
    try:
        return float(created_at), run_id
    except ValueError as error:
        raise GrafosError("request_invalid", "'after' is not a cursor that this scheduler gave out") from error
