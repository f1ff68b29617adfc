"""Who may look at the console: one-time links that an operator asked for, and the browser sessions that they open.

    link made --used within two minutes--> session --signed out, ended, or its operator's key taken back--> nothing

Everything is in memory, as hashes: a restart, or another replica that leads, forgets all of it, and a person asks for
a new link. Nothing that opens the console is ever on a disk or in a log.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from grafos_core.errors import GrafosError
from grafos_scheduler.state import State

LINK_LIFE_S = 120.0
"""From the command line to the browser takes seconds; the rest is for whoever has to copy it."""
SESSION_LIFE_S = 8 * 3600.0
"""A working day; no use of it makes it longer."""
LINKS_MAX = 64
SESSIONS_MAX = 256
"""Of all operators; with one more, the oldest is forgotten."""
SECRET_BYTES = 32
NEW_LINK = "make a new one: grafos fabric console"


class Viewer(NamedTuple):
    """An operator who may look, by the key of their certificate, until ``ends_at`` (Unix seconds). ``by_certificate``:
    the browser shows the certificate itself, and there is no session to end."""

    name: str
    key_sha256: str
    ends_at: float
    by_certificate: bool = False


class _Link(NamedTuple):
    viewer: Viewer
    valid_until: float
    used: bool


class Sessions:
    """Links and sessions by the hash of their secret. ``draw`` gives a fresh secret."""

    def __init__(self, draw: Callable[[], str] = lambda: secrets.token_urlsafe(SECRET_BYTES)) -> None:
        self._draw = draw
        self._links: OrderedDict[str, _Link] = OrderedDict()
        self._sessions: OrderedDict[str, Viewer] = OrderedDict()

    def make_link(self, name: str, key_sha256: str, certificate_ends_at: float, now: float) -> tuple[str, float]:
        """The secret of a fresh link for this operator, and until when it can be used."""
        secret = self._draw()
        valid_until = min(now + LINK_LIFE_S, certificate_ends_at)
        self._links[_hash(secret)] = _Link(Viewer(name, key_sha256, certificate_ends_at), valid_until, used=False)
        while len(self._links) > LINKS_MAX:
            self._links.popitem(last=False)
        return secret, valid_until

    def redeem(self, secret: str, state: State, now: float) -> tuple[str, Viewer]:
        """The secret of a new session, and whose it is. ``token_refused`` for a link that was used before, is not
        known, or whose operator's key counts no more; ``token_expired`` for one that lapsed."""
        link = self._links.get(_hash(secret))
        if link is None:
            raise GrafosError("token_refused", "this sign-in link is not known here", next=NEW_LINK)
        if link.used:
            raise GrafosError("token_refused", "this sign-in link was used already", next=NEW_LINK)
        if link.valid_until <= now:
            raise GrafosError("token_expired", "this sign-in link lapsed", next=NEW_LINK)
        if not stands(state, link.viewer.key_sha256):
            raise GrafosError("token_refused", "the operator who made this sign-in link counts no more")
        self._links[_hash(secret)] = link._replace(used=True)
        opened = link.viewer._replace(ends_at=min(now + SESSION_LIFE_S, link.viewer.ends_at))
        cookie = self._draw()
        self._sessions[_hash(cookie)] = opened
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return cookie, opened

    def viewer_of(self, cookie: str, state: State, now: float) -> Viewer | None:
        """Whose session the cookie is of; None for none, or for one that is over."""
        viewer = self._sessions.get(_hash(cookie)) if cookie else None
        if viewer is None:
            return None
        if viewer.ends_at <= now or not stands(state, viewer.key_sha256):
            self.end(cookie)
            return None
        return viewer

    def end(self, cookie: str) -> Viewer | None:
        """Ends the session, and gives whose it was."""
        return self._sessions.pop(_hash(cookie), None)


def stands(state: State, key_sha256: str) -> bool:
    """Whether an operator's key counts: it is the one that claimed this scheduler, and was not taken back."""
    claim = state.claim
    return claim is not None and claim.key_sha256 == key_sha256 and key_sha256 not in state.revoked_keys


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
