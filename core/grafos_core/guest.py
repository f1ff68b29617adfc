"""A person's account at somebody else's fabric, in her own home:

    <her fabric's home>/account/account.json     whose account it is; written last: she is signed in
    <her fabric's home>/account/orchestrator…    where its orchestrator answers; its pinned CA, her credentials

It is a home of that fabric without its key and its ledger, so whatever needs one of them is refused, and the rest works
as it does for the operator. A fabric of her own, as the local one, is beside it and not touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.fabric import ABOUT_NAME, KEY_NAME, Fabric, fabric_home
from grafos_core.ids import FabricId

ACCOUNT_NAME = "account.json"
SCHEMA_VERSION = 1


class Account(msgspec.Struct, frozen=True):
    """Who is signed in, and at which fabric."""

    fabric: str
    tenant: str
    name: str
    signed_in_at: float
    schema_version: int = SCHEMA_VERSION

    @property
    def text(self) -> str:
        """As people and the orchestrator's logs call it."""
        return f"{self.tenant}/{self.name}"


class Guest(Fabric):
    """Somebody else's fabric, with the account that we have there."""

    def __init__(self, account: Account) -> None:
        self.home = account_home()
        self.name = "account"
        self.id = FabricId(account.fabric)
        self.account = account

    @property
    def key(self) -> trust.PrivateKey:
        raise self._refused("has its key")

    def ledger(self) -> NoReturn:
        raise self._refused("keeps its ledger")

    def operators_only(self) -> GrafosError:
        """The refusal of what an operator does."""
        return self._refused("may do that")

    def _refused(self, what: str) -> GrafosError:
        return GrafosError(
            "rights_missing",
            f"you are signed in to {self.id} as {self.account.text}, and only its operator {what}",
            next="ask its operator; or make a fabric of your own: grafos dev up here, grafos fabric init for clouds",
        )


def account_home() -> Path:
    """Where the account is kept."""
    return fabric_home() / "account"


def open_guest() -> Guest | None:
    """The fabric where we are signed in; None where we are not. ``fabric_invalid`` when that cannot be read."""
    file = account_home() / ACCOUNT_NAME
    try:
        return Guest(msgspec.json.decode(file.read_bytes(), type=Account))
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise GrafosError(
            "fabric_invalid",
            "whose account is signed in here cannot be read",
            where=str(file),
            why=str(error),
            next="grafos account logout --forget, then sign in with a fresh invitation",
        ) from error


def has_own_fabric() -> bool:
    """Whether a fabric of one's own is here, or was."""
    return any((fabric_home() / name).exists() for name in (KEY_NAME, ABOUT_NAME))
