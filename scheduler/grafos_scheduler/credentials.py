"""The keys and certificates of a scheduler, made by itself at the first start, in its trust folder.

    ca-key.pem ca.pem          the scheduler's own CA; an operator pins ``ca.pem`` at the claim
    server-key.pem server.pem  what clients see on the port
    token-key                  the secret that API tokens are signed with
    cell-key.pem cell.pem cell-token  of a standalone cell: what the daemon beside its scheduler (``fabricbiosd``) shows
    account-key.pem            of an orchestrator: signs the tokens of cells that may enrol, and invitations of people

All are 0600 in a folder of 0700, and no private key leaves the machine. Each start makes what is missing and renews
what has used up most of its life or names other addresses, so a start that was cut short is simply finished. What
clients see is also renewed while the scheduler runs.
"""

from __future__ import annotations

import functools
import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from grafos_core import paths, signed_claims, tokens, trust
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.virtual_machines import HOST
from grafos_scheduler.authorize import CELL, CELL_RIGHTS
from grafos_scheduler.settings import Settings

LEAF_LIFE_S = 90 * 86400
"""Longer than any cell is meant to live in one piece; a restart renews."""
CELL_LIFE_S = 3600.0
"""Of what an enrolled cell shows; it renews by possession, at half of this."""
RENEW_AT_FRACTION = 0.5
"""A start renews a leaf that has used up this much of its life."""
TOKEN_KEY_BYTES = 32
ACCOUNT_KEY = "account-key.pem"


class Credentials:
    """What the trust folder holds, loaded. Made by ``open_credentials``."""

    def __init__(self, settings: Settings, ca_key: trust.PrivateKey, token_key: bytes) -> None:
        self._settings = settings
        self._ca_key = ca_key
        self.token_key = token_key
        self.folder = settings.trust
        self.ca_pem = (self.folder / "ca.pem").read_text()
        self.server_key = _load_key(self.folder / "server-key.pem")
        self._load_server()

    def _load_server(self) -> None:
        self.server_pem = (self.folder / "server.pem").read_text()
        self.server_der = trust.certificate_der(self.server_pem)

    def renew_server(self, now: float) -> bool:
        """Renews what clients see on the port if it is past the middle of its life; whether it was."""
        before = self.server_pem
        _Authority(self.ca_pem, self._ca_key, now).keep_server(self._settings)
        self._load_server()
        return self.server_pem != before

    @functools.cached_property
    def account_key(self) -> signed_claims.AccountKey:
        """Signs bootstrap tokens and invitations; an orchestrator's folder has it."""
        return signed_claims.key_from_pem((self.folder / ACCOUNT_KEY).read_bytes())

    def certify(
        self, csr_pem: str, kind: str, name: str, now: float, *, provider: str = "", life_s: float = LEAF_LIFE_S
    ) -> str:
        """A client certificate (PEM) for the request's key; ``request_invalid`` for a request that does not hold."""
        uri = trust.spiffe_id(self._settings.fabric, kind, name, provider)
        return trust.sign_csr(self.ca_pem, self._ca_key, csr_pem, uri, now, life_s)

    def door(self, fabric_key: trust.PublicKey, now: float) -> str:
        """The word of our CA (PEM) for the fabric's key, by which its holder gets as far as proving to have it."""
        return trust.make_door(self.ca_pem, self._ca_key, self._settings.fabric, fabric_key, now)

    def mint_token(
        self,
        kind: str,
        name: str,
        key_sha256: str,
        rights: tuple[str, ...],
        now: float,
        *,
        life_s: float = LEAF_LIFE_S,
    ) -> str:
        """An API token that is bound to the certificate's key and lives as long as the certificate."""
        claims = tokens.ApiClaims(self._settings.scheduler_id, kind, name, key_sha256, rights, now + life_s)
        return tokens.mint_api_token(self.token_key, claims)


def open_credentials(settings: Settings, clock: Clock) -> Credentials:
    """Makes what is missing in the trust folder and loads it. ``config_invalid`` for files that cannot be used."""
    folder, now = paths.private_folder(settings.trust), clock.now()
    try:
        ca_key = _key(folder / "ca-key.pem")
        name = f"grafos {settings.mode} {settings.scheduler_id}"
        has_door = not settings.is_orchestrator
        _once(folder / "ca.pem", lambda: trust.make_ca(ca_key, name, now, has_door=has_door).encode())
        authority = _Authority((folder / "ca.pem").read_text(), ca_key, now)
        token_key = _once(folder / "token-key", lambda: os.urandom(TOKEN_KEY_BYTES))
        if len(token_key) != TOKEN_KEY_BYTES:  # an empty one would let anybody make tokens
            raise ValueError(f"token-key has {len(token_key)} bytes, not {TOKEN_KEY_BYTES}")
        authority.keep_server(settings)
        if settings.is_orchestrator:
            signed_claims.key_from_pem(
                _once(folder / ACCOUNT_KEY, lambda: signed_claims.key_to_pem(signed_claims.new_key()))
            )
            return Credentials(settings, ca_key, token_key)
        return _with_own_cell(settings, authority, token_key)
    except (OSError, ValueError) as error:
        raise GrafosError(
            "config_invalid",
            "the trust folder cannot be used",
            where=str(folder),
            why=str(error),
            next="mend the file, or start with an empty trust folder and an empty state folder",
        ) from error


def _with_own_cell(settings: Settings, authority: _Authority, token_key: bytes) -> Credentials:
    """The credentials, once those of the daemon beside this scheduler are there too."""
    folder, [provider] = settings.trust, settings.providers
    authority.keep_leaf(
        folder, CELL, trust.spiffe_id(settings.fabric, CELL, settings.scheduler_id, provider), addresses=()
    )
    credentials = Credentials(settings, authority.key, token_key)
    cell_key = trust.key_sha256(_load_key(folder / "cell-key.pem").public_key())
    token = credentials.mint_token(CELL, settings.scheduler_id, cell_key, CELL_RIGHTS, authority.now)
    # Written last: it tells the daemon beside us that all its files are there.
    paths.write_private(folder / "cell-token", token.encode())
    return credentials


class _Authority(NamedTuple):
    """The CA at this start."""

    pem: str
    key: trust.PrivateKey
    now: float

    def keep_server(self, settings: Settings) -> None:
        """Makes or renews what clients see on the port, for all addresses that they dial. A virtual machine on this one
        has another address for the loopback, and finds an orchestrator there."""
        is_here = settings.is_orchestrator and ipaddress.ip_address(settings.address).is_loopback
        addresses = tuple(dict.fromkeys((settings.address, *settings.names, *((HOST,) if is_here else ()))))
        uri = trust.spiffe_id(settings.fabric, "scheduler", settings.scheduler_id)
        self.keep_leaf(settings.trust, "server", uri, addresses)

    def keep_leaf(self, folder: Path, name: str, uri: str, addresses: tuple[str, ...]) -> None:
        """Makes the leaf of that name, or makes it anew if it no longer serves."""
        key, path = _key(folder / f"{name}-key.pem"), folder / f"{name}.pem"
        if not _serves(path, uri, key, self.pem, addresses, self.now):
            csr = trust.make_csr(key, name)
            pem = trust.sign_csr(self.pem, self.key, csr, uri, self.now, LEAF_LIFE_S, addresses)
            paths.write_private(path, pem.encode())


def _once(path: Path, make: Callable[[], bytes]) -> bytes:
    """The file's bytes, made the first time."""
    if not path.exists():
        paths.write_private(path, make())
    return path.read_bytes()


def _key(path: Path) -> trust.PrivateKey:
    return trust.key_from_pem(_once(path, lambda: trust.key_to_pem(trust.new_key())))


def _load_key(path: Path) -> trust.PrivateKey:
    return trust.key_from_pem(path.read_bytes())


def _serves(path: Path, uri: str, key: trust.PrivateKey, ca_pem: str, addresses: tuple[str, ...], now: float) -> bool:
    """Whether the leaf in ``path`` is of this CA, for this key, name and addresses, and young enough."""
    if not path.exists():
        return False
    pem = path.read_text()
    try:
        peer = trust.check_issued_by(pem, ca_pem, at=now)
    except GrafosError:
        return False
    return (
        peer.key_sha256 == trust.key_sha256(key.public_key())
        and uri == trust.spiffe_id(peer.fabric, peer.kind, peer.name, peer.provider)
        and trust.addresses_of(pem) == set(addresses)
        and peer.not_after - now > LEAF_LIFE_S * (1 - RENEW_AT_FRACTION)
    )
