"""The bodies of accounts: invitations, signing in, who is there, and the keys that orders are signed with."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_core.receipts import Signed
from grafos_scheduler.messages import Name, Pem, TenantView, Text

INVITED_S_DEFAULT = 3600.0
"""Long enough to hand a line over and paste it."""
INVITED_S_MAX = 86_400.0
"""Who does not come within a day is invited again."""


class InvitationAsked(msgspec.Struct, frozen=True):
    """``POST /api/v1/admin/invitations``: which person of which tenant may sign in, within ``valid_s``."""

    tenant: Name
    name: Name
    valid_s: Annotated[float, msgspec.Meta(gt=0, le=INVITED_S_MAX)] = INVITED_S_DEFAULT


class InvitationGrant(msgspec.Struct, frozen=True):
    """``token`` is a JWT (EdDSA) for one use, until ``valid_until``; ``ca_pem`` is what the person pins."""

    token: Text
    made_at: float
    valid_until: float
    ca_pem: str


class SignIn(msgspec.Struct, frozen=True):
    """``POST /api/v1/account/login``: the invitation's token, and a request for the key that the person made. The same
    request may be repeated while the invitation lasts."""

    token: Text
    csr_pem: Pem


class AccountGrant(msgspec.Struct, frozen=True):
    """What a person shows from now on, until ``valid_until``."""

    fabric: str
    scheduler: str
    tenant: str
    name: str
    certificate_pem: str
    api_token: str
    valid_until: float


class AccountView(msgspec.Struct, frozen=True):
    """A person of a tenant. ``signing_key_pem`` and ``proof`` are empty while she has registered no signing key. Who
    is invited and has not come yet has no key, and may come until ``lapses_at`` (Unix seconds, as all times)."""

    tenant: str
    name: str
    key_sha256: str
    since: float
    invited_by: str
    lapses_at: float = 0.0
    signing_key_pem: str = ""
    verified_at: float = 0.0
    proof: Signed | None = None


class AccountList(msgspec.Struct, frozen=True):
    accounts: list[AccountView]


class AccountShown(msgspec.Struct, frozen=True):
    """``GET /api/v1/account``: who the caller is, what she may do, and what her tenant has left.
    ``signs``: the tenant's runs are signed."""

    account: AccountView
    tenant: TenantView
    rights: list[str]
    signs: bool


class Challenge(msgspec.Struct, frozen=True):
    """What is to be signed with the key that is registered, until ``valid_until``."""

    challenge: str
    valid_until: float
