"""How a person signs in at somebody else's orchestrator, and out again.

The key is made here and never leaves. What was granted is written before the record that says so, so a sign-in that was
cut short is no half of one: the same invitation goes on with the same key, and nobody is signed in before its end.
"""

from __future__ import annotations

import shutil

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.guest import ACCOUNT_NAME, Account, Guest, account_home, open_guest
from grafos_core.invitations import Invitation
from grafos_core.paths import locked, private_folder
from grafos_scheduler.account_client import sign_in
from grafos_scheduler.account_messages import AccountGrant
from grafos_stacks.orchestrators import OrchestratorHome, OrchestratorRecord
from grafos_stacks.records import kept, tenant_name

CLOCK_BEHIND_S_MAX = 300.0
"""How long before its invitation was made a clock here may say that it is; certificates are backdated as much."""
WORTHLESS = (
    "certificate_expired",
    "certificate_refused",
    "credentials_missing",
    "not_found",
    "tenant_unknown",
    "token_expired",
    "token_refused",
)
"""With these the orchestrator, or we, say that there is nothing left to sign out of."""


def sign_in_with(invitation: Invitation, now: float) -> Guest:
    """Signs in; the same outcome however often it is repeated until it went well. ``account_exists`` where somebody is
    signed in, ``invitation_refused``, ``invitation_expired``, ``certificate_refused`` for an orchestrator that is not
    the one of the invitation, ``scheduler_unreachable``."""
    _check_clock(invitation, now)
    private_folder(account_home())
    with locked(account_home()):
        if (there := open_guest()) is not None:
            raise GrafosError(
                "account_exists",
                f"you are signed in already, to {there.id} as {there.account.text}",
                where=str(there.home),
                next="grafos account logout, then sign in again",
            )
        guest = Guest(Account(invitation.fabric, invitation.tenant, invitation.name, now))
        home, who = OrchestratorHome(guest), tenant_name(invitation.tenant)
        private_folder(home.folder)
        try:
            granted = sign_in(invitation.url, invitation.ca_pem, invitation.token, home.request_for(who))
            _check_granted(granted, invitation)
        except GrafosError as error:
            _undo(error)
            raise
        home.pin_ca(invitation.ca_pem)
        home.keep_grant(who, granted.certificate_pem, granted.api_token)
        home.keep_record(OrchestratorRecord(invitation.url, granted.scheduler, now))
        kept(guest.home / ACCOUNT_NAME, msgspec.json.encode(guest.account) + b"\n")
        return guest


def sign_out(guest: Guest) -> bool:
    """Has the orchestrator forget our key, then removes what is here; whether the key still counted.

    ``scheduler_unreachable`` and the like when it cannot be told; then all stays as it is.
    """
    counted = True
    try:
        with OrchestratorHome(guest).client(tenant_name(guest.account.tenant)) as client:
            client.leave_account()
    except GrafosError as error:
        if error.code not in WORTHLESS:
            raise
        counted = False
    forget_account()
    return counted


def forget_account() -> None:
    """Removes all that is kept of an account here; the record goes first, since its presence says that all is there."""
    (account_home() / ACCOUNT_NAME).unlink(missing_ok=True)
    shutil.rmtree(account_home(), ignore_errors=True)


def _undo(error: GrafosError) -> None:
    """Nothing of a refused sign-in stays. Where the answer may only be lost the key stays: it may be the one that the
    invitation is used up by."""
    if error.code in ("scheduler_unreachable", "answer_invalid") or error.retryable:
        return
    forget_account()


def _check_granted(granted: AccountGrant, invitation: Invitation) -> None:
    if (granted.fabric, granted.tenant, granted.name) != (invitation.fabric, invitation.tenant, invitation.name):
        raise GrafosError(
            "invitation_refused",
            f"the orchestrator signs {granted.tenant}/{granted.name} of {granted.fabric} in, and the invitation is for "
            f"{invitation.tenant}/{invitation.name} of {invitation.fabric}",
            next="ask the operator for another one",
        )


def _check_clock(invitation: Invitation, now: float) -> None:
    """Told before the orchestrator's certificate is judged by a clock that is wrong."""
    if now < invitation.made_at - CLOCK_BEHIND_S_MAX:
        raise GrafosError(
            "invitation_refused",
            f"the invitation was made {(invitation.made_at - now) / 3600:.1f} h from now, by the clock of this machine",
            next="set this machine's clock, then sign in again",
        )
