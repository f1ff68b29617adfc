"""The fabric's orchestrator: who it is, and who we are there; ``claiming`` says how a person takes possession of it.

    <fabric>/orchestrator.json              where it answers and what it is called; written last: it obeys us
    <fabric>/orchestrator/claim-secret      what it is claimed with, once; made by `grafos fabric init`
    <fabric>/orchestrator/ca.pem            its CA, pinned at the claim; receipts of its cells are checked by it
    <fabric>/orchestrator/restoring         while a machine is filled from a backup
    <fabric>/orchestrator/empty-<machine>/  who we are at the empty orchestrator there meanwhile
    <fabric>/orchestrator/operator-*        key, request, certificate and token of the operator there
    <fabric>/orchestrator/tenant-<name>-*   the same of a tenant; with the key that its orders are signed with, and what
                                            the orchestrator answered when that was registered

A fabric has one orchestrator. Credentials live for 90 days there and are renewed whenever they are used in the second
half of their life.
"""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.guest import Guest
from grafos_core.paths import private_folder, write_private_once
from grafos_scheduler.account_client import Signer
from grafos_scheduler.account_messages import AccountView
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.records import SCHEMA_VERSION, SchedulerHome, kept, tenant_name
from grafos_stacks.spec import ORCHESTRATOR_ID

DEFAULT_TENANT = "default"
REACH_PATIENCE_S = 10.0
"""What an orchestrator gets that is just starting again, before it counts as away."""
SECRET_BYTES = 32
RENEW_AT_FRACTION = 0.5
"""Credentials are renewed when they are used past this part of their life."""
_SIGNING_KEY, _VERIFIED = "signing-key.pem", "verified.json"


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
        super().__init__(fabric.home / ORCHESTRATOR_ID, ORCHESTRATOR_ID)
        self._fabric = fabric
        self._record_file = fabric.home / "orchestrator.json"

    @property
    def fabric_id(self) -> str:
        """Whose orchestrator it is."""
        return str(self._fabric.id)

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

    @property
    def is_restoring(self) -> bool:
        """Whether a machine is being filled from a backup."""
        return self._restoring_file.exists()

    @property
    def restored_from(self) -> str:
        """Where the orchestrator answered before the machine was lost that is being replaced; empty if nobody knows."""
        return self._restoring_file.read_text() if self.is_restoring else ""

    def note_restoring(self, *, begun: bool) -> None:
        """Noted before the first step, with where it answered then, and forgotten after the last."""
        if not begun:
            self._restoring_file.unlink(missing_ok=True)
        elif not self.is_restoring:
            record = self.record()
            kept(self._restoring_file, record.url.encode() if record is not None else b"")

    @property
    def _restoring_file(self) -> Path:
        return self.folder / "restoring"

    def forget(self) -> None:
        """The orchestrator is gone: nothing of it stays but the pinned CAs, under which receipts are still verified.
        The record goes first, since its presence says that all is there."""
        self._record_file.unlink(missing_ok=True)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != self.ca_file:
                path.unlink()

    def forget_grant(self, who: str) -> None:
        """Removes what was granted to somebody who is gone."""
        for what in ("token", "cert.pem", "csr.pem", "key.pem", _VERIFIED, _SIGNING_KEY):
            self._file(who, what).unlink(missing_ok=True)

    def check_granted(self, who: str) -> None:
        """``credentials_missing`` if nothing was granted; ``rights_missing`` for the operator of somebody else's."""
        if isinstance(self._fabric, Guest) and who != tenant_name(self._fabric.account.tenant):
            raise self._fabric.operators_only()
        try:
            super().check_granted(who)
        except GrafosError as error:
            tenant = who.removeprefix(tenant_name(""))
            error.next = "grafos fabric claim URL" if tenant == who else f"grafos admin create-tenant --tenant {tenant}"
            raise

    def client(self, who: str, url: str = "", *, patience_s: float = 0.0) -> OrchestratorClient:
        """A way to the orchestrator as that person, with credentials that were renewed if they are due;
        ``credentials_missing``, ``certificate_expired``. Runs are signed if a signing key was registered."""
        url = url or self.known().url
        self.check_granted(who)
        found = self.open_client(OrchestratorClient, who, url, patience_s)
        if self._is_due(who, time.time()):
            with found as client:
                granted = client.renew_account(self.request_for(who))
            self.keep_grant(who, granted.certificate_pem, granted.api_token)
            found = self.open_client(OrchestratorClient, who, url, patience_s)
        found.signer = self._signer(who) if self.verified(who) else None
        return found

    def ends_at(self, who: str) -> float:
        """When the credentials run out (Unix seconds), unless they are renewed by use."""
        return trust.peer_of(trust.certificate_der(self._file(who, "cert.pem").read_text())).not_after

    # --- orders -------------------------------------------------------------------------------------------------

    def verified(self, who: str) -> AccountView | None:
        """What the orchestrator answered when that person's signing key was registered; None if it was not."""
        try:
            return msgspec.json.decode(self._file(who, _VERIFIED).read_bytes(), type=AccountView)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            where = str(self._file(who, _VERIFIED))
            next_step = "remove the file, then: grafos account verify"
            raise GrafosError(
                "fabric_invalid", "the answer about a signing key cannot be read", where=where, next=next_step
            ) from error

    def verify(self, who: str) -> AccountView:
        """Makes that person's signing key, once, and registers it; the same outcome however often it is repeated.
        ``signing_key_refused`` where another one is registered."""
        if not self._file(who, _SIGNING_KEY).exists():
            kept(self._file(who, _SIGNING_KEY), trust.key_to_pem(trust.new_key()))
        key_sha256 = trust.key_sha256(trust.certificate_key(self._file(who, "cert.pem").read_text()))
        with self.client(who) as client:
            answer = client.register_signing_key(self._signer(who), key_sha256)
        kept(self._file(who, _VERIFIED), msgspec.json.encode(answer))
        return answer

    def _signer(self, who: str) -> Signer:
        file = self._file(who, _SIGNING_KEY)
        try:
            key = trust.key_from_pem(file.read_bytes())
        except (OSError, ValueError) as error:
            raise GrafosError(
                "credentials_missing",
                "the key that your orders are signed with cannot be read",
                where=str(file),
                why=str(error),
                next="restore it from a backup, or sign in anew with a fresh invitation: grafos account logout",
            ) from error
        return Signer(key, str(self._fabric.id), self.known().name, who.removeprefix(tenant_name("")))

    def _is_due(self, who: str, now: float) -> bool:
        """Whether the certificate is in the second half of its life; ``certificate_expired`` if that is over."""
        ends_at = self.ends_at(who)
        if ends_at <= now:
            raise GrafosError(
                "certificate_expired",
                "our credentials for the orchestrator ran out, because they were not used for weeks",
                next="grafos account logout --forget, then sign in with a fresh invitation of its operator"
                if isinstance(self._fabric, Guest)
                else "grafos fabric claim URL",
            )
        began_at = trust.issued_at(self._file(who, "cert.pem").read_text())
        return now - began_at > RENEW_AT_FRACTION * (ends_at - began_at)
