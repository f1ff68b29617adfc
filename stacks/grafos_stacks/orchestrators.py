"""The fabric's orchestrator: who it is, who we are there, and how a person who started one takes possession of it.

    <fabric>/orchestrator.json              where it answers and what it is called; written last: it obeys us
    <fabric>/orchestrator/claim-secret      what it is claimed with, once; made by `grafos fabric init`
    <fabric>/orchestrator/ca.pem            its CA, pinned at the claim; receipts of its cells are checked by it
    <fabric>/orchestrator/operator-*        key, request, certificate and token of the operator there
    <fabric>/orchestrator/tenant-<name>-*   the same of a tenant

A fabric has one orchestrator. Credentials live for 90 days there and are renewed whenever they are used in the second
half of their life.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder, write_private_once
from grafos_scheduler.client import TIMEOUT_S, Wire, claim, decode
from grafos_scheduler.messages import Health
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_scheduler.tenant_messages import TenantAsked
from grafos_stacks.records import OPERATOR, SCHEMA_VERSION, SchedulerHome, kept, tenant_name

ORCHESTRATOR = "orchestrator"
DEFAULT_TENANT = "default"
SECRET_BYTES = 32
CLAIM_PATIENCE_S = 5.0
"""An orchestrator that was started just now answers within a second or two."""
ASK_EVERY_S = 0.1
RENEW_AT_FRACTION = 0.5
"""Credentials are renewed when they are used past this part of their life."""


class OrchestratorRecord(msgspec.Struct, frozen=True):
    """Where the orchestrator answers, and its name. ``provider`` and ``cell_id`` tell of its machine if grafos made it,
    and are empty where a person did."""

    url: str
    name: str
    claimed_at: float
    provider: str = ""
    cell_id: str = ""
    schema_version: int = SCHEMA_VERSION


class OrchestratorHome(SchedulerHome):
    """What the fabric's home keeps of its orchestrator."""

    def __init__(self, fabric: Fabric) -> None:
        super().__init__(fabric.home / ORCHESTRATOR, ORCHESTRATOR)
        self._record_file = fabric.home / "orchestrator.json"

    @property
    def secret_file(self) -> Path:
        """The one-time secret of the claim; the orchestrator removes its own copy once it is claimed."""
        return self.folder / "claim-secret"

    def make_secret(self) -> None:
        """Makes the secret (hex, 0600) if it is not there."""
        private_folder(self.folder)
        write_private_once(self.secret_file, secrets.token_bytes(SECRET_BYTES).hex().encode())

    def record(self) -> OrchestratorRecord | None:
        """The orchestrator that was claimed, None if there is none; ``fabric_invalid`` for a damaged record."""
        try:
            return msgspec.json.decode(self._record_file.read_bytes(), type=OrchestratorRecord)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise GrafosError(
                "fabric_invalid",
                "the record of the fabric's orchestrator cannot be read",
                where=str(self._record_file),
                why=str(error),
                next="remove it, then: grafos fabric claim URL",
            ) from error

    def known(self) -> OrchestratorRecord:
        """The orchestrator that was claimed, or ``not_found``."""
        record = self.record()
        if record is None:
            raise GrafosError("not_found", "this fabric has no orchestrator", next="grafos fabric init")
        return record

    def keep_record(self, record: OrchestratorRecord) -> None:
        """Writes where it answers."""
        kept(self._record_file, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")

    def forget_grant(self, who: str) -> None:
        """Removes what was granted to somebody who is gone."""
        for what in ("token", "cert.pem", "csr.pem", "key.pem"):
            self._file(who, what).unlink(missing_ok=True)

    def client(self, who: str, url: str = "", *, patience_s: float = 0.0) -> OrchestratorClient:
        """A way to the orchestrator as that person, with credentials that were renewed if they are due;
        ``credentials_missing``, ``certificate_expired``."""
        url = url or self.known().url
        self.check_granted(who)
        found = self.open_client(OrchestratorClient, who, url, patience_s)
        if not _is_due(self._file(who, "cert.pem").read_text(), time.time()):
            return found
        with found as client:
            granted = client.renew_account(self.request_for(who))
        self.keep_grant(who, granted.certificate_pem, granted.api_token)
        return self.open_client(OrchestratorClient, who, url, patience_s)


def _is_due(certificate_pem: str, now: float) -> bool:
    """Whether the certificate is in the second half of its life; ``certificate_expired`` if that is over."""
    ends_at = trust.peer_of(trust.certificate_der(certificate_pem)).not_after
    if ends_at <= now:
        raise GrafosError(
            "certificate_expired",
            "our credentials for the orchestrator ran out, because they were not used for weeks",
            next="start another one with empty folders: grafos fabric init --replace",
        )
    began_at = trust.issued_at(certificate_pem)
    return now - began_at > RENEW_AT_FRACTION * (ends_at - began_at)


# --- claiming -----------------------------------------------------------------------------------------------------


def take_orchestrator(
    fabric: Fabric, url: str, secret_file: Path | None, *, replace: bool = False
) -> OrchestratorRecord:
    """Claims the orchestrator at ``url``, pins its CA, and creates the tenant `default` there; the same outcome however
    often it is repeated. An orchestrator that is ours already may have got another address. With ``replace`` it takes
    the place of the one before, once it has been claimed.

    ``claim_refused`` (another fabric's, another one than before, a wrong secret, no orchestrator), ``config_invalid``
    (no secret), ``scheduler_unreachable``.
    """
    home = OrchestratorHome(fabric)
    told = health_of(url)
    if told.mode != ORCHESTRATOR:
        raise GrafosError(
            "claim_refused",
            f"at that address is the scheduler of the standalone cell {told.name[:40]}",
            where=url,
            next="start one with --mode orchestrator; grafos fabric init prints how",
        )
    if replace or not home.is_granted(OPERATOR):
        _claim(fabric, home, url, told, read_secret(secret_file or home.secret_file))
    try:
        with home.client(OPERATOR, url) as client:
            _create_default(home, client)
    except GrafosError as error:
        if error.code not in ("certificate_refused", "token_refused"):
            raise
        raise _another(url, home.record(), error) from error
    record = home.record()
    if record is None or replace:
        home.keep_record(OrchestratorRecord(url, told.name, time.time()))
    elif record.url != url:
        home.keep_record(msgspec.structs.replace(record, url=url))
    home.secret_file.unlink(missing_ok=True)
    return home.known()


def health_of(url: str, patience_s: float = CLAIM_PATIENCE_S) -> Health:
    """What whoever answers at ``url`` says of itself; nothing of it is to be trusted. Asked again for ``patience_s``
    while nobody answers."""
    until = time.monotonic() + patience_s
    while True:
        try:
            with Wire(url, trust.unverified_context(), TIMEOUT_S) as wire:
                return decode(wire.exchange("GET", "/health", None, {}), Health)
        except GrafosError as error:
            if error.code != "scheduler_unreachable" or time.monotonic() >= until:
                raise
        time.sleep(ASK_EVERY_S)


def read_secret(file: Path) -> bytes:
    """The secret in a file (hex), or ``config_invalid``."""
    try:
        secret = bytes.fromhex(file.read_text().strip())
    except (OSError, ValueError) as error:
        raise GrafosError(
            "config_invalid",
            "there is no claim secret that can be read",
            where=str(file),
            why=str(error),
            next="name the file that the orchestrator was started with: --secret-file FILE",
        ) from error
    return secret


def _claim(fabric: Fabric, home: OrchestratorHome, url: str, told: Health, secret: bytes) -> None:
    private_folder(home.folder)
    try:
        granted = claim(
            url,
            secret,
            fabric=str(fabric.id),
            fabric_key_pem=fabric.public_key_pem,
            operator=OPERATOR,
            csr_pem=home.request_for(OPERATOR),
            cell_id=told.name,
        )
    except GrafosError as error:
        if error.code == "claim_refused":
            error.where = url
            error.next = (
                "if that was not this home of yours, end it, and start anew with an empty --state and --trust folder"
                if told.claimed
                else "name the secret that it was started with: --secret-file FILE; grafos fabric init says its fabric"
            )
        raise
    for token_file in home.folder.glob(f"{tenant_name('*')}-token"):
        home.forget_grant(token_file.name.removesuffix("-token"))  # at another orchestrator it is nobody yet
    home.pin_ca(granted.ca_pem)
    home.keep_grant(OPERATOR, granted.certificate_pem, granted.api_token)


def _create_default(home: OrchestratorHome, client: OrchestratorClient) -> None:
    """The tenant `default` with the budget that new tenants get. The operator's first call closes the claim."""
    who = tenant_name(DEFAULT_TENANT)
    if home.is_granted(who):
        client.tenants()
        return
    granted = client.create_tenant(TenantAsked(DEFAULT_TENANT, home.request_for(who)))
    home.keep_grant(who, granted.certificate_pem, granted.api_token)


def _another(url: str, record: OrchestratorRecord | None, error: GrafosError) -> GrafosError:
    ours = f"{record.name} at {record.url}" if record else "another one"
    return GrafosError(
        "claim_refused",
        "the orchestrator at that address is not the one that this fabric has",
        where=url,
        why=f"this fabric has {ours}; {error.what}",
        next="to leave that one for this: grafos fabric claim URL --replace --secret-file FILE",
    )
