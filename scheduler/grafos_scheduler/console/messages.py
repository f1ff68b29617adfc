"""The REST shape of the console: how the command line gets a sign-in link."""

from __future__ import annotations

import msgspec


class ConsoleLink(msgspec.Struct, frozen=True):
    """``POST /api/v1/admin/console-links``: ``code`` signs one browser in, once, before ``valid_until``; it belongs
    behind the ``#`` of ``path``, which no browser sends to a server. ``certificate_sha256`` is of the certificate that
    the browser will be shown."""

    path: str
    code: str
    valid_until: float
    certificate_sha256: str
