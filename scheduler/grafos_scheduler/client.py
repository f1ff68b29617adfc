"""Speaks to a scheduler: one method per route, over mutual TLS with a pinned CA and an API token.

On the standard library's ``http.client``, because a command line starts, asks and ends. Nearly every call may be
repeated, because saying the same again changes nothing. So a connection that breaks, or a replica that leads no more,
is tried once more at once, and for ``patience_s`` longer when the caller knows that a scheduler is on its way up.
"""

from __future__ import annotations

import hmac
import http.client
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from grafos_core import trust
from grafos_core.errors import CODES, GrafosError
from grafos_core.ids import sha256_of
from grafos_core.receipts import Signed
from grafos_core.revoking import GRACE_S_DEFAULT
from grafos_scheduler import audit_messages, framing, lease_messages, messages, standing_messages
from grafos_scheduler.regaining_messages import RegainGrant

TIMEOUT_S = 10.0
"""For connecting and for each wait on the socket; a long poll adds its own time."""
ANSWER_BYTES_MAX = 2 * framing.FRAME_BYTES_MAX
"""Artifacts in base64 are the largest answer."""
FELL_SILENT = "fell_silent"
"""In an error's context: a fresh connection was made and closed again without a byte of an answer."""
SILENT_S = 1.0
"""Who has patience asks on for so long: a scheduler that is killed falls silent too, and then is not there."""
LEADERS_ASKED_MAX = 4
"""Replicas that send on from one to the next, while the lead changes, before the caller hears of it."""
ASK_ANOTHER = frozenset({"scheduler_unreachable", "store_fenced"})
"""Whoever was asked is not there, or leads no more and is about to end."""
RETRY_FIRST_S = 0.02
RETRY_MOST_S = 0.5
"""Between tries while ``patience_s`` lasts: short at first, since a scheduler starts within tenths of a second."""

Answer = TypeVar("Answer", bound=msgspec.Struct)


class SchedulerClient:
    """One caller's way to one scheduler, over one connection that is kept. For one thread; ``close`` when done.

    ``url`` is ``https://ADDRESS:PORT``; ``ca_pem`` the pinned CA; ``certificate`` and ``key`` are files.
    Errors of the scheduler come as they are; beside them ``scheduler_unreachable``, ``certificate_refused`` and
    ``answer_invalid``.
    """

    def __init__(
        self,
        url: str,
        ca_pem: str,
        certificate: Path,
        key: Path,
        api_token: str,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = 0.0,
    ) -> None:
        self.url = url
        if not (api_token.isascii() and api_token.isprintable()):
            raise GrafosError(
                "token_refused",
                "the API token is damaged: it holds characters that no token has",
                where=url,
                next="claim the cell, or register the tenant, again",
            )
        self._headers = {"authorization": f"Bearer {api_token}"}
        self._patience_s = patience_s
        try:
            context = trust.client_context(ca_pem, certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise GrafosError(
                "credentials_missing",
                "the credentials for the scheduler cannot be read",
                where=f"{certificate}, {key}",
                why=str(error),
                next="claim the cell, or register the tenant, again",
            ) from error
        self._wire = Wire(url, context, timeout_s)

    # --- anybody ---

    def health(self) -> messages.Health:
        return self._get("/health", messages.Health)

    # --- operator ---

    def set_terms(self, terms: messages.Terms) -> messages.Terms:
        """Records what the cell costs and when it must be gone."""
        return self._call("PUT", "/api/v1/cell/terms", messages.Terms, terms)

    def register_tenant(self, request: messages.TenantRequest) -> messages.TenantGrant:
        """Registers a tenant with a slice of its budget, or renews its credentials."""
        return self._call("POST", "/api/v1/tenants", messages.TenantGrant, request)

    def tenants(self) -> list[messages.TenantView]:
        return self._get("/api/v1/tenants", messages.TenantList).tenants

    def leases(self, run_id: str = "") -> list[lease_messages.LeaseView]:
        """The leases that the caller may see, those of one run or all."""
        query = "?" + urlencode({"run_id": run_id}) if run_id else ""
        return self._get(f"/api/v1/leases{query}", lease_messages.LeaseList).leases

    def revoke_lease(
        self, lease_id: str, *, grace_s: float = GRACE_S_DEFAULT, why: str = ""
    ) -> lease_messages.LeaseView:
        """Takes a lease back, and gives it as it is; its run may go on for ``grace_s``."""
        asked = lease_messages.LeaseRevocation(grace_s, why)
        return self._call("POST", f"/api/v1/leases/{quote(lease_id, safe='')}/revoke", lease_messages.LeaseView, asked)

    def fenced_leases(self) -> list[lease_messages.LeaseView]:
        """The leases whose teardown failed."""
        return self._get("/api/v1/admin/fenced-leases", lease_messages.LeaseList).leases

    def unfence_lease(self, lease_id: str) -> lease_messages.LeaseView:
        """Has the cell try the failed teardown again; it has gone well once the lease is listed no more."""
        path = f"/api/v1/admin/fenced-leases/{quote(lease_id, safe='')}/unfence"
        return self._call("POST", path, lease_messages.LeaseView)

    def audit(self, query: audit_messages.AuditQuery) -> audit_messages.AuditPage:
        """A page of the audit log, which the scheduler has verified as far as it read."""
        given = urlencode(msgspec.to_builtins(query))
        return self._get(f"/api/v1/admin/audit?{given}", audit_messages.AuditPage)

    def drain(self, *, draining: bool = True, cell_id: str = "") -> messages.DrainView:
        """Closes admission (or opens it again) for one cell, or for all; runs under way go on."""
        request = messages.DrainRequest(cell_id, draining)
        return self._call("POST", "/api/v1/drain", messages.DrainView, request)

    def settle(self) -> list[Signed]:
        """Closes every slice and gives a signed ``Settlement`` of each; ask again until all are final."""
        return self._call("POST", "/api/v1/settlement", messages.Settlements).settlements

    # --- cells ---

    def register_cell(self, registration: messages.CellRegistration) -> messages.CellRegistered:
        return self._call("POST", "/api/v1/cells/register", messages.CellRegistered, registration)

    def cells(self) -> list[messages.CellView]:
        return self._get("/api/v1/cells", messages.CellList).cells

    # --- tenant ---

    def has_blob(self, sha256: str) -> bool:
        """Whether the tenant's blob is at the scheduler."""
        try:
            self._exchange("HEAD", f"/api/v1/blobs/{sha256}", None)
        except GrafosError as error:
            if error.code == "blob_missing":
                return False
            if error.http_status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
                self.cells()  # the answer to HEAD has no words for why the caller is refused; this one has
            raise
        return True

    def put_blob(self, data: bytes) -> str:
        """Uploads ``data`` if it is not there yet; gives its SHA-256."""
        sha256 = sha256_of(data)
        if not self.has_blob(sha256):
            self._exchange("PUT", f"/api/v1/blobs/{sha256}", data)
        return sha256

    def get_blob(self, sha256: str) -> bytes:
        return self._exchange("GET", f"/api/v1/blobs/{sha256}", None)

    def start_run(self, request: messages.RunRequest) -> messages.RunView:
        """Asks for a run whose blobs are there. Asked again with the same run key it is the same run."""
        return self._call("POST", "/api/v1/runs", messages.RunView, request)

    def start_runs(self, requests: Sequence[messages.RunRequest]) -> list[messages.BatchedRun]:
        """Asks for up to ``messages.RUNS_BATCH_MAX`` runs at once; for each, in this order, the run or its refusal."""
        batch = messages.RunBatch(tuple(requests))
        return self._call("POST", "/api/v1/runs:batch", messages.BatchedRuns, batch).runs

    def foresee(self, request: messages.RunRequest) -> messages.Admission:
        """What would become of such a run; neither its blobs nor its key need to be there, and nothing is begun."""
        return self._call("POST", "/api/v1/admission", messages.Admission, request)

    def offers(self, request: messages.RunRequest) -> standing_messages.Offers:
        """What each cell would say to the run; its provider may be ``any``."""
        return self._call("POST", "/api/v1/offers", standing_messages.Offers, request)

    def cancel_run(self, run_id: str) -> messages.RunView:
        """Has the run end, and gives it as it is: ``cancelled``, under way to it, or ended before."""
        return self._call("POST", f"/api/v1/runs/{run_id}/cancel", messages.RunView)

    def run(self, run_id: str, *, wait_s: float = 0.0) -> messages.RunView:
        """The run as it is, after waiting up to ``wait_s`` (at most ``messages.WAIT_S_MAX``) for its end."""
        query = "?" + urlencode({"wait_s": wait_s}) if wait_s else ""
        return self._get(f"/api/v1/runs/{run_id}{query}", messages.RunView, wait_s)

    def runs(self, *, after: str = "", limit: int = 100) -> messages.RunPage:
        """One page of runs, the newest first."""
        return self._get("/api/v1/runs?" + urlencode({"after": after, "limit": limit}), messages.RunPage)

    def all_runs(self) -> Iterator[messages.RunView]:
        """Every run that the caller may see, the newest first, page by page."""
        page = self.runs(limit=messages.RUNS_PAGE_MAX)
        yield from page.runs
        while page.next:
            page = self.runs(after=page.next, limit=messages.RUNS_PAGE_MAX)
            yield from page.runs

    def artifacts(self, run_id: str) -> messages.Artifacts:
        return self._get(f"/api/v1/runs/{run_id}/artifacts", messages.Artifacts)

    # --- how ---

    def close(self) -> None:
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, answer: type[Answer], wait_s: float = 0.0) -> Answer:
        return decode(self._exchange("GET", path, None, wait_s), answer)

    def _call(self, method: str, path: str, answer: type[Answer], body: msgspec.Struct | None = None) -> Answer:
        data = msgspec.json.encode(body) if body is not None else None
        return decode(self._exchange(method, path, data), answer)

    def _exchange(
        self, method: str, path: str, body: bytes | None, wait_s: float = 0.0, bytes_max: int = ANSWER_BYTES_MAX
    ) -> bytes:
        """One exchange, tried again at once, and further while the scheduler is out of reach and patience lasts."""
        until, silent_since, pause_s, last = time.monotonic() + self._patience_s, 0.0, RETRY_FIRST_S, None
        while True:
            try:
                return self._wire.exchange(method, path, body, self._headers, wait_s, bytes_max)
            except GrafosError as error:
                if error.code not in ASK_ANOTHER:
                    raise
                now = time.monotonic()
                silent_since = (silent_since or now) if error.context.get(FELL_SILENT) else 0.0
                if last is not None:
                    if now >= min(until, silent_since + SILENT_S):
                        _check_silence(last, error)
                    if now >= until:
                        raise
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, RETRY_MOST_S)
                last = error


def claim(
    url: str,
    secret: bytes,
    *,
    fabric: str,
    fabric_key_pem: str,
    operator: str,
    csr_pem: str,
    cell_id: str,
    timeout_s: float = TIMEOUT_S,
) -> messages.ClaimGrant:
    """Takes possession of the cell at ``url``, and gives what its scheduler granted, once the cell has proved itself.

    Nothing that the other side says is trusted before its MAC shows that it knows the secret and sees the same
    certificate, request and fabric key as we do. Keep the request and repeat the claim with it when the answer was
    lost. ``claim_refused`` from either side; ``scheduler_unreachable`` while the cell is not up.
    """
    asked = _ClaimTry(url, secret, fabric, fabric_key_pem, operator, csr_pem, timeout_s)
    try:
        server_der, grant = asked.ask_twice()
    except GrafosError as error:
        if error.code == "certificate_refused":
            raise _not_ours("the cell lets nobody in without a certificate: it was claimed before") from error
        raise
    if not hmac.compare_digest(trust.claim_mac(secret, "cell", server_der, csr_pem, fabric_key_pem), grant.mac):
        raise _not_ours("whoever answers there does not know the cell's secret")
    check_grant(grant, server_der, csr_pem, fabric, operator, cell_id)
    return grant


class _ClaimTry(NamedTuple):
    """The operator's half of a claim, to be sent over a connection whose certificate it is bound to."""

    url: str
    secret: bytes
    fabric: str
    fabric_key_pem: str
    operator: str
    csr_pem: str
    timeout_s: float

    def ask_twice(self) -> tuple[bytes, messages.ClaimGrant]:
        """The certificate that the other side showed, and what it granted over that very connection."""
        try:
            return self._ask()
        except GrafosError as first:
            if first.code != "scheduler_unreachable":
                raise
            try:
                return self._ask()
            except GrafosError as second:
                _check_silence(first, second)
                raise

    def _ask(self) -> tuple[bytes, messages.ClaimGrant]:
        with Wire(self.url, trust.unverified_context(), self.timeout_s, follows=False) as wire:
            server_der = wire.server_certificate()
            mac = trust.claim_mac(self.secret, "operator", server_der, self.csr_pem, self.fabric_key_pem)
            asked = messages.ClaimRequest(self.fabric, self.operator, self.csr_pem, self.fabric_key_pem, mac)
            data = wire.exchange("POST", "/api/v1/claim", msgspec.json.encode(asked), {})
            return server_der, decode(data, messages.ClaimGrant)


def _check_silence(first: GrafosError, second: GrafosError) -> None:
    """Two fresh connections that were made and then closed without a word: our certificate is not accepted.

    TLS 1.3 lets a client finish before the server has looked at its certificate, and the server's loop sends no alert
    when it does not like it (a known gap of asyncio), so silence is all that there is to see.
    """
    if first.context.get(FELL_SILENT) and second.context.get(FELL_SILENT):
        raise GrafosError(
            "certificate_refused",
            "the scheduler closes the connection once it has seen our certificate, or that there is none",
            where=second.where,
            next="claim the cell, or register the tenant, again",
        )


def check_grant(
    grant: messages.ClaimGrant | RegainGrant, server_der: bytes, csr_pem: str, fabric: str, operator: str, cell_id: str
) -> None:
    """What was granted is for us, and from the CA that also signed the server's certificate."""
    now = time.time()
    try:
        server = trust.check_issued_by(ssl.DER_cert_to_PEM_cert(server_der), grant.ca_pem, at=now)
        ours = trust.check_issued_by(grant.certificate_pem, grant.ca_pem, at=now)
    except GrafosError as error:
        raise _not_ours("what the cell granted does not hold together", why=error.what) from error
    is_ours = (ours.fabric, ours.kind, ours.name) == (fabric, "operator", operator)
    is_bound = ours.key_sha256 == trust.key_sha256(trust.csr_key(csr_pem))
    is_the_cell = (server.fabric, server.kind, grant.cell_id) == (fabric, "scheduler", cell_id)
    if not (is_ours and is_bound and is_the_cell):
        raise _not_ours(f"the cell granted credentials for somebody else, or is not {cell_id}")


def _not_ours(what: str, why: str = "") -> GrafosError:
    return GrafosError(
        "claim_refused", what, why=why, next="tear the cell down and provision a new one; nothing was entrusted to it"
    )


class Wire:
    """One HTTP connection that is made when needed, and its troubles told in our words.

    A replica that does not lead names the one that does, which is then asked, and again ``url`` once that one does not
    answer. ``follows`` is for a context that trusts the pinned CA alone, which every replica must show.
    """

    def __init__(self, url: str, context: ssl.SSLContext, timeout_s: float, *, follows: bool = True) -> None:
        self._home = url
        self._context = context
        self._timeout_s = timeout_s
        self._follows = follows
        self._turn_to(url)

    def _turn_to(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port or 443
        except ValueError:
            port = 0
        if parts.scheme != "https" or not parts.hostname or not port or parts.path not in ("", "/"):
            raise GrafosError("config_invalid", f"{url!r} is no scheduler's address", next="use https://ADDRESS:PORT")
        self._url = url
        self._is_fresh = False
        self._connection = http.client.HTTPSConnection(
            parts.hostname, port, timeout=self._timeout_s, context=self._context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def server_certificate(self) -> bytes:
        """The certificate (DER) that the other side shows; connects if need be."""
        try:
            if self._connection.sock is None:
                self._connection.connect()
                self._is_fresh = True
        except (OSError, http.client.HTTPException) as error:
            raise self._translated(error, has_connected=False) from error
        der: bytes | None = self._connection.sock.getpeercert(binary_form=True)
        assert der is not None, "a TLS server shows a certificate"
        return der

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        wait_s: float = 0.0,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> bytes:
        """The body of a good answer, of at most ``bytes_max``; else the error that it carries, or why there is none."""
        asked = 0
        while True:
            asked += 1
            try:
                return self._exchange(method, path, body, headers, wait_s, bytes_max)
            except GrafosError as error:
                if error.code in ASK_ANOTHER and self._url != self._home:
                    self.close()
                    self._turn_to(self._home)
                if error.code != "not_leader" or not self._follows or asked == LEADERS_ASKED_MAX:
                    raise
                self.close()
                self._turn_to(str(error.context.get("leader", "")))

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], wait_s: float, bytes_max: int
    ) -> bytes:
        is_fresh, is_connected = self._is_fresh, False
        try:
            if self._connection.sock is None:
                self._connection.connect()
                is_fresh = True
            is_connected, self._is_fresh = True, False
            self._connection.sock.settimeout(self._timeout_s + wait_s)
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            data = response.read(bytes_max + 1)
            if not response.isclosed():
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._translated(error, has_connected=is_fresh and is_connected) from error
        if len(data) > bytes_max:
            raise GrafosError("answer_invalid", f"the answer has over {bytes_max} bytes", where=self._url)
        if response.status != http.HTTPStatus.OK:
            raise self._refusal(response, data)
        return data

    def _refusal(self, response: http.client.HTTPResponse, data: bytes) -> GrafosError:
        """The error in the body; an answer to HEAD has none, so there the header with its code must do."""
        try:
            if not data:
                code = response.headers.get(messages.CODE_HEADER, "")
                leader = urlsplit(response.headers.get("location", ""))
                context = {"leader": f"{leader.scheme}://{leader.netloc}"} if leader.netloc else {}
                return GrafosError.from_wire({"code": code, "what": CODES[code].meaning, "context": context})
            return GrafosError.from_wire(msgspec.to_builtins(msgspec.json.decode(data, type=messages.ErrorBody)))
        except (msgspec.MsgspecError, KeyError):
            what = f"the answer with status {response.status} is not one of a scheduler"
            return GrafosError("answer_invalid", what, where=self._url)

    def _translated(self, error: Exception, *, has_connected: bool) -> GrafosError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return GrafosError(
                "certificate_refused",
                "the server's certificate is not one that the pinned CA signed for this address",
                where=self._url,
                why=error.verify_message,
                next="check that the address belongs to this scheduler; another program may have taken the port",
            )
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return GrafosError(
                "certificate_refused",
                "the scheduler does not accept the certificate that it was shown",
                where=self._url,
                why=error.reason,
                next="claim the cell, or register the tenant, again",
            )
        is_gone = isinstance(error, OSError)
        is_closed = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
        return GrafosError(
            "scheduler_unreachable" if is_gone else "answer_invalid",
            "the scheduler did not answer" if is_gone else "what answers there does not speak HTTP",
            where=self._url,
            why=str(error) or type(error).__name__,
            next="check that it runs and that the address is right",
            context={FELL_SILENT: True} if has_connected and is_closed else None,
        )


def decode(data: bytes, answer: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(data, type=answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GrafosError("answer_invalid", "the scheduler's answer has no documented shape", why=str(error)) from error
