"""One closed family of errors, each with a stable code.

``GrafosError`` is the only exception that grafos raises on purpose. What went wrong is its ``code``; the table
``CODES`` says, for every code that exists, how a shell script sees it (exit code), how HTTP carries it (status),
whether asking again can help, and what it means. A code that is not in the table cannot be raised.

Exit codes: 1 failure · 2 usage · 3 needs input · 4 who you are · 5 what you may · 6 quota or capacity · 7 budget ·
8 conflict or lease lost · 9 partial, something is left · 10 timeout · 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class CodeFacts(NamedTuple):
    """What is fixed about one code."""

    exit_code: int
    http_status: int
    retryable: bool
    meaning: str


FAILURE, USAGE, NEEDS_INPUT, AUTH, PERMISSION, CAPACITY, BUDGET, CONFLICT, PARTIAL, TIMEOUT = range(1, 11)
INTERRUPTED = 130

# fmt: off
CODES: dict[str, CodeFacts] = {
    "account_exists": CodeFacts(CONFLICT, 409, False, "Somebody is signed in here already, or the tenant has a person of that name."),
    "answer_invalid": CodeFacts(FAILURE, 502, False, "The other side sent something that is not an answer of this protocol."),
    "artifact_missing": CodeFacts(FAILURE, 404, False, "The run left no such artifact, or it was collected."),
    "attestation_refused": CodeFacts(AUTH, 403, False, "What the cloud says of the machine does not hold, or is for another one."),
    "audit_broken": CodeFacts(FAILURE, 500, False, "A record of the audit log was changed, taken out or put in."),
    "backup_invalid": CodeFacts(USAGE, 422, False, "A backup cannot be read, or is of another fabric."),
    "bake_failed": CodeFacts(FAILURE, 500, False, "The image of a cell could not be baked; nothing was left under its name."),
    "blob_mismatch": CodeFacts(FAILURE, 422, False, "The bytes do not have the SHA-256 that was promised for them."),
    "blob_missing": CodeFacts(FAILURE, 404, False, "The module or input named by its SHA-256 was never uploaded."),
    "body_too_large": CodeFacts(USAGE, 413, False, "More bytes than the documented limit."),
    "budget_exceeded": CodeFacts(BUDGET, 402, False, "The worst case does not fit under the cap or budget."),
    "build_failed": CodeFacts(FAILURE, 422, False, "The compiler refused the program."),
    "build_stale": CodeFacts(USAGE, 409, False, "The tasklet was not built, or its sources changed since."),
    "bundle_unavailable": CodeFacts(FAILURE, 503, True, "The software bundle for the cell could not be built."),
    "cancelled": CodeFacts(CONFLICT, 409, False, "The run was cancelled before it finished."),
    "capability_refused": CodeFacts(PERMISSION, 403, False, "The capability token is not one that this cell honours."),
    "cell_busy": CodeFacts(CAPACITY, 503, True, "The cell has as many runs waiting as it will take."),
    "cell_gone": CodeFacts(CONFLICT, 410, False, "The cell exists no longer."),
    "cell_lost": CodeFacts(FAILURE, 503, True, "The cell ended or restarted while the run was on it."),
    "cell_not_ready": CodeFacts(TIMEOUT, 504, True, "The cell did not become ready in time."),
    "cell_revoked": CodeFacts(AUTH, 401, False, "The cell's identity was taken back; it enrols again only with a new key."),
    "cell_unknown": CodeFacts(USAGE, 404, False, "There is no record of such a cell."),
    "cells_registered": CodeFacts(CONFLICT, 409, False, "Cells are registered at the orchestrator that is to end."),
    "certificate_expired": CodeFacts(AUTH, 401, False, "The certificate ran out before it could be renewed."),
    "certificate_refused": CodeFacts(AUTH, 401, False, "The certificate is missing, foreign, expired or for somebody else."),
    "claim_refused": CodeFacts(AUTH, 403, False, "The claim's secret is wrong, used up or for another cell."),
    "cloud_auth": CodeFacts(AUTH, 401, False, "The cloud does not accept the credentials."),
    "cloud_capacity": CodeFacts(CAPACITY, 503, True, "The cloud has no machine of that type there now."),
    "cloud_conflict": CodeFacts(CONFLICT, 409, False, "The cloud says that the resource exists or changed meanwhile."),
    "cloud_denied": CodeFacts(PERMISSION, 403, False, "The credentials lack a permission."),
    "cloud_in_use": CodeFacts(CONFLICT, 409, True, "The cloud will not delete a resource that something still uses."),
    "cloud_invalid": CodeFacts(USAGE, 400, False, "The cloud refuses the request as it stands."),
    "cloud_not_found": CodeFacts(FAILURE, 404, True, "The cloud does not know the resource, or not yet."),
    "cloud_quota": CodeFacts(CAPACITY, 403, False, "The account's quota does not allow it."),
    "cloud_slow": CodeFacts(TIMEOUT, 504, True, "The cloud did not finish an operation in time."),
    "cloud_throttled": CodeFacts(CAPACITY, 429, True, "The cloud asks for fewer requests."),
    "cloud_unknown": CodeFacts(FAILURE, 502, False, "The cloud answered with an error that grafos does not know."),
    "cloud_unreachable": CodeFacts(FAILURE, 503, True, "The cloud's endpoint did not answer."),
    "config_invalid": CodeFacts(USAGE, 400, False, "A setting has a value that cannot be used."),
    "confirmation_needed": CodeFacts(NEEDS_INPUT, 400, False, "The command costs or destroys, and nobody could be asked."),
    "conformance_failed": CodeFacts(FAILURE, 500, False, "Runs on the cell came to other ends than the ABI says."),
    "credentials_missing": CodeFacts(AUTH, 401, False, "No credentials for the cloud were found."),
    "credentials_mixed": CodeFacts(AUTH, 400, False, "Real credentials would reach an emulator, or dummy ones a real cloud."),
    "cross_fabric": CodeFacts(PERMISSION, 403, False, "The lease is of another trust domain, which nothing here reaches."),
    "deadline_exceeded": CodeFacts(TIMEOUT, 504, False, "The tasklet ran longer than its deadline."),
    "demo_failed": CodeFacts(FAILURE, 500, False, "A command of the demo did not succeed."),
    "dev_running": CodeFacts(CONFLICT, 409, False, "A local fabric runs already."),
    "dev_state_invalid": CodeFacts(FAILURE, 500, False, "The local fabric's state file cannot be read."),
    "draining": CodeFacts(CONFLICT, 409, False, "The cell admits no new runs because it is being taken down."),
    "emulator_invalid": CodeFacts(FAILURE, 500, False, "The emulator's state file cannot be read, or is not its own."),
    "emulator_not_running": CodeFacts(FAILURE, 503, False, "No emulated cloud answers."),
    "emulator_running": CodeFacts(CONFLICT, 409, False, "An emulated cloud runs already with that state directory."),
    "enrolment_expired": CodeFacts(AUTH, 401, False, "The bootstrap token lapsed before the cell enrolled with it."),
    "enrolment_refused": CodeFacts(AUTH, 403, False, "The bootstrap token is used up, foreign or for another cell or key."),
    "fabric_invalid": CodeFacts(FAILURE, 500, False, "The fabric's key or ledger cannot be read."),
    "fabric_mismatch": CodeFacts(CONFLICT, 409, False, "The key is not that of the fabric that is here."),
    "fenced": CodeFacts(CONFLICT, 409, False, "The resource is fenced until an operator clears it."),
    "folder_taken": CodeFacts(CONFLICT, 409, False, "Something is already where a new folder was to be made."),
    "fuel_exhausted": CodeFacts(CAPACITY, 422, False, "The tasklet used up its fuel."),
    "generation_stale": CodeFacts(CONFLICT, 409, False, "The lease moved on to a newer generation."),
    "identity_not_pinned": CodeFacts(AUTH, 401, False, "The certificate chain does not end in the pinned key."),
    "image_differs": CodeFacts(FAILURE, 409, False, "A bake from the same lock and software gave another image."),
    "image_invalid": CodeFacts(FAILURE, 422, False, "A disk image or its record cannot be read, or they do not belong together."),
    "image_unknown": CodeFacts(FAILURE, 404, False, "Neither the journal nor the cloud shows such a published image."),
    "internal": CodeFacts(FAILURE, 500, False, "A bug in grafos; the report says where."),
    "interrupted": CodeFacts(INTERRUPTED, 499, True, "Stopped by Ctrl-C or SIGTERM; the next command continues or undoes."),
    "invitation_expired": CodeFacts(AUTH, 401, False, "The invitation lapsed before anybody signed in with it."),
    "invitation_refused": CodeFacts(AUTH, 403, False, "The invitation is used up, damaged, foreign or taken back."),
    "journal_invalid": CodeFacts(FAILURE, 500, False, "The provisioning journal cannot be read."),
    "lease_expired": CodeFacts(CONFLICT, 409, False, "The lease ran out."),
    "lease_revoked": CodeFacts(CONFLICT, 409, False, "The lease was taken back before its time."),
    "lease_unknown": CodeFacts(USAGE, 404, False, "There is no such lease here."),
    "ledger_conflict": CodeFacts(CONFLICT, 409, True, "Somebody else has booked in the meantime; it is to be decided anew."),
    "ledger_elsewhere": CodeFacts(CONFLICT, 409, False, "The fabric's ledger is kept elsewhere, and closed here."),
    "limit_exceeded": CodeFacts(USAGE, 422, False, "A count, size or depth is over its documented limit."),
    "lock_stale": CodeFacts(CONFLICT, 409, False, "The lock of an image names packages that no mirror has any more."),
    "manifest_invalid": CodeFacts(USAGE, 400, False, "grafos.toml is missing, is not TOML or has a key or value that is not allowed."),
    "memory_exceeded": CodeFacts(CAPACITY, 422, False, "The tasklet asked for more memory than its limit."),
    "module_invalid": CodeFacts(USAGE, 422, False, "The bytes are not a module of tasklet-profile-v0."),
    "name_invalid": CodeFacts(USAGE, 400, False, "A name is empty, too long or has characters that are not allowed."),
    "no_eligible_provider_cells": CodeFacts(CAPACITY, 503, True, "No cell of the provider meets all readiness requirements."),
    "no_healthy_replica": CodeFacts(CAPACITY, 503, True, "No instance of the service can take a session now."),
    "not_found": CodeFacts(USAGE, 404, False, "There is no such route or thing."),
    "not_leader": CodeFacts(CONFLICT, 307, True, "Another replica of the scheduler leads; the answer names its address."),
    "operator_replaced": CodeFacts(AUTH, 403, False, "Another home of the fabric became the operator, by the fabric's key."),
    "order_refused": CodeFacts(AUTH, 403, False, "The run is not signed by a key of its tenant, or not as it is asked for."),
    "output_too_large": CodeFacts(CAPACITY, 422, False, "The tasklet wrote more than the documented limit."),
    "placement_failed": CodeFacts(CAPACITY, 503, True, "Every candidate cell was vetoed; the message lists each veto."),
    "plan_stale": CodeFacts(CONFLICT, 409, False, "The world moved since the plan was made."),
    "port_taken": CodeFacts(CONFLICT, 409, False, "Another program listens on the port."),
    "price_implausible": CodeFacts(FAILURE, 422, False, "The price cannot be right, so no bound of the bill can be given."),
    "price_missing": CodeFacts(FAILURE, 404, False, "No price is known, so no bound of the bill can be given."),
    "price_stale": CodeFacts(FAILURE, 409, False, "The price is too old to bound a bill by."),
    "program_error": CodeFacts(FAILURE, 422, False, "The tasklet ended with an error of its own."),
    "provenance_invalid": CodeFacts(FAILURE, 422, False, "What says where an image comes from was changed, or is of another image."),
    "provenance_missing": CodeFacts(FAILURE, 404, False, "Nothing beside the image says where it comes from."),
    "quota_exceeded": CodeFacts(CAPACITY, 403, False, "The tenant is at its quota for a requested resource."),
    "receipt_invalid": CodeFacts(FAILURE, 422, False, "The receipt's signature or contents do not hold."),
    "request_invalid": CodeFacts(USAGE, 400, False, "The request does not have the documented shape."),
    "resources_left": CodeFacts(PARTIAL, 409, True, "Something billable may be left; the message lists it."),
    "response_invalid": CodeFacts(FAILURE, 422, False, "The tasklet's response is not JSON."),
    "rights_missing": CodeFacts(PERMISSION, 403, False, "The token does not carry the right that the route needs."),
    "run_key_reused": CodeFacts(CONFLICT, 409, False, "The run key belongs to a run with other contents."),
    "run_unknown": CodeFacts(USAGE, 404, False, "There is no such run in this fabric."),
    "runtime_not_ready": CodeFacts(CAPACITY, 503, True, "The provider has no healthy cell."),
    "scheduler_unreachable": CodeFacts(FAILURE, 503, True, "The scheduler did not answer."),
    "schema_newer": CodeFacts(FAILURE, 500, False, "The stored state was written by a newer grafos."),
    "service_fenced": CodeFacts(CONFLICT, 409, True, "The instance may not serve any more; its sessions are over."),
    "service_not_listening": CodeFacts(TIMEOUT, 504, True, "The service did not listen, or did not accept the session, in time."),
    "service_unknown": CodeFacts(USAGE, 404, False, "There is no such service of this tenant."),
    "session_closed": CodeFacts(CONFLICT, 409, False, "The service is done with the session, and takes nothing more of it."),
    "session_idle": CodeFacts(TIMEOUT, 504, False, "Neither side of a session sent or took anything for too long."),
    "sessions_exhausted": CodeFacts(CAPACITY, 503, True, "The instance has as many sessions as it may have."),
    "signing_key_refused": CodeFacts(AUTH, 403, False, "The signing key is not proved, or the person has another one."),
    "slice_refused": CodeFacts(BUDGET, 403, False, "The slice is not signed by the fabric, is for another scheduler, or ran out."),
    "stack_busy": CodeFacts(CONFLICT, 409, True, "Another process works on the same stack."),
    "store_failed": CodeFacts(FAILURE, 500, True, "State could not be made durable; nothing was acknowledged."),
    "store_fenced": CodeFacts(CONFLICT, 409, True, "A newer writer has taken over the store; it has all that was acknowledged."),
    "store_invalid": CodeFacts(FAILURE, 500, False, "Stored state cannot be read: the file is damaged or not one of ours."),
    "tenant_in_use": CodeFacts(CONFLICT, 409, False, "The tenant has active leases, or its name belonged to one that was deleted."),
    "tenant_unknown": CodeFacts(AUTH, 404, False, "There is no such tenant."),
    "tests_failed": CodeFacts(FAILURE, 422, False, "The program's own tests did not pass."),
    "token_expired": CodeFacts(AUTH, 401, False, "The token ran out."),
    "token_refused": CodeFacts(AUTH, 401, False, "The token is missing, foreign, altered or bound to another certificate."),
    "tool_missing": CodeFacts(FAILURE, 503, False, "A program that this command needs was not found."),
    "trapped": CodeFacts(FAILURE, 422, False, "The tasklet trapped: an illegal instruction, access or stack overflow."),
    "unsupported": CodeFacts(USAGE, 422, False, "This version or this cell does not do that."),
    "upgrade_failed": CodeFacts(CONFLICT, 409, False, "New software did not answer in time; what ran before runs again."),
    "usage": CodeFacts(USAGE, 400, False, "The command line does not parse."),
    "version_unsupported": CodeFacts(FAILURE, 426, False, "The two sides share no protocol version."),
    "worker_lost": CodeFacts(FAILURE, 503, True, "The worker process that ran the tasklet ended unexpectedly."),
}
# fmt: on


def general_step(code: str) -> str:
    """The next step where nobody knows a better one: reading what the code stands for."""
    return f"grafos help errors {code}"


class GrafosError(Exception):
    """What went wrong, where, why, and what to do next.

    ``what`` is one line for the caller. ``where`` names the place (cloud, region, resource, file), ``why`` gives the
    cause in the words of whoever knows it, ``next`` the step that helps. ``context`` is for operators and ``--json``:
    flat, JSON-ready, never a secret.
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: str = "",
        why: str = "",
        next: str = "",
        retryable: bool | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        assert code in CODES, f"unknown error code {code!r}: add it to the table"
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.why = why
        self.next = next
        self.retryable = CODES[code].retryable if retryable is None else retryable
        self.context: dict[str, Any] = dict(context or {})

    def __str__(self) -> str:
        return f"error[{self.code}]: {self.what}"

    def last_words(self) -> str:
        """For the log of a daemon that ends: the error, and a line each for where, why and next where known."""
        more = (("where", self.where), ("why", self.why), ("next", self.next))
        return "\n".join([str(self), *(f"  {label}: {text}" for label, text in more if text)])

    @property
    def exit_code(self) -> int:
        """The process exit code that tells a shell script what happened."""
        return CODES[self.code].exit_code

    @property
    def http_status(self) -> int:
        """The HTTP status at the edge of a server."""
        return CODES[self.code].http_status

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, the same on stdout with ``--json`` and in an HTTP body."""
        return {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "next": self.next,
            "retryable": self.retryable,
            "context": self.context,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> GrafosError:
        """Reads ``to_wire``'s form; a code of a newer peer becomes ``answer_invalid`` with the code kept in the text."""
        code, what = str(wire.get("code", "")), str(wire.get("what", ""))
        if code not in CODES:
            code, what = "answer_invalid", f"{code}: {what}"
        context = wire.get("context")
        return cls(
            code,
            what,
            where=str(wire.get("where", "")),
            why=str(wire.get("why", "")),
            next=str(wire.get("next", "")),
            retryable=bool(wire.get("retryable", CODES[code].retryable)),
            context=context if isinstance(context, Mapping) else None,
        )
