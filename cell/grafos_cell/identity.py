"""Who this cell is: the certificate, key and API token in its trust folder.

Those of a registered cell were got by ``enrolling`` and are renewed while it serves. The scheduler of a standalone cell
makes them while this daemon is starting beside it, so they are waited for. The secret of the cell's capability tokens
is another one, made here and kept with the cell's state: it never leaves the cell.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

from grafos_core import paths, receipts, trust
from grafos_core.errors import GrafosError
from grafos_scheduler.frames import LINK_ALPN

FILES_WITHIN_S = 30.0
"""How long the scheduler may take to make the cell's files at its first start."""
LOOK_EVERY_S = 0.01
TOKEN_KEY_BYTES = 32
KEY_FILE, CA_FILE, TOKEN_FILE, CERTIFICATE_FILE = "cell-key.pem", "ca.pem", "cell-token", "cell.pem"


class Identity:
    """What the trust folder held for the cell at the last ``load``; ``peer`` is what the certificate says."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / CERTIFICATE_FILE
        self.key = folder / KEY_FILE
        self._folder = folder
        self.load()

    def load(self) -> None:
        """Takes up what is in the folder now; ``OSError`` or ``ValueError`` if that is no identity."""
        self.api_token = (self._folder / TOKEN_FILE).read_text().strip()
        self.ca_pem = (self._folder / CA_FILE).read_text()
        self.certificate_pem = self.certificate.read_text()
        self.private_key = trust.key_from_pem(self.key.read_bytes())
        self.peer = trust.peer_of(trust.certificate_der(self.certificate_pem))

    def sign(self, receipt: receipts.RunReceipt | receipts.InstanceReceipt) -> receipts.Signed:
        """The receipt with this cell's signature and certificate."""
        return receipts.sign_record(receipt, self.private_key, self.certificate_pem)

    def link_context(self) -> ssl.SSLContext:
        """TLS for the cell link."""
        context = trust.client_context(self.ca_pem, self.certificate, self.key)
        context.set_alpn_protocols([LINK_ALPN])
        return context


async def wait_for_identity(folder: Path, within_s: float = FILES_WITHIN_S) -> Identity:
    """The identity, once the scheduler has written it. ``credentials_missing`` if it does not come in time."""
    # The token is written last, so when it is there everything is.
    last = folder / TOKEN_FILE
    for _ in range(int(within_s / LOOK_EVERY_S)):
        if last.exists():
            break
        await asyncio.sleep(LOOK_EVERY_S)
    try:
        identity = Identity(folder)
    except (OSError, ValueError) as error:
        raise GrafosError(
            "credentials_missing",
            "the cell's credentials cannot be read",
            where=str(folder),
            why=str(error),
            next="start the scheduler with the same trust folder; it makes them",
        ) from error
    if identity.peer.kind != "cell":
        raise GrafosError("certificate_refused", f"{identity.certificate} is the certificate of a {identity.peer.kind}")
    return identity


def capability_key(state: Path) -> bytes:
    """The secret of this cell's capability tokens, made at the first start."""
    path = paths.private_folder(state) / "capability-key"
    if not path.exists():
        paths.write_private(path, os.urandom(TOKEN_KEY_BYTES))
    key = path.read_bytes()
    if len(key) != TOKEN_KEY_BYTES:
        raise GrafosError("store_invalid", "the cell's token key is damaged", where=str(path))
    return key
