"""The agent of a registered cell as a real process, beside a real orchestrator on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from orchestrator import Orchestrator
from standalone import Identity, Process

from grafos_core import paths, tokens, trust
from grafos_core.ids import sha256_of
from grafos_scheduler import messages
from grafos_scheduler.authorize import CELL_RIGHTS

PATIENCE_S = 60.0
PROVIDER = "gcp"


class AgentOf:
    """One cell's machine: its folders, which outlive its processes."""

    def __init__(self, at: Orchestrator, cell_id: str, folder: Path | None = None) -> None:
        self.at = at
        self.cell_id = cell_id
        self.folder = folder or at.folder / f"machine-{cell_id}"
        self.trust = self.folder / "trust"
        self.log = self.folder / "log"
        self.processes: list[Process] = []
        paths.private_folder(self.trust)

    @property
    def token_file(self) -> Path:
        return self.trust / "bootstrap-token"

    def given(self, token: str, ca_pem: str = "") -> AgentOf:
        """With a bootstrap token and the orchestrator's CA, as its user data would leave them."""
        self.token_file.write_text(token + "\n")
        (self.trust / "orchestrator-ca.pem").write_text(ca_pem or self.at.ca_pem)
        return self

    def begin(self, **flags: object) -> Process:
        wanted = {
            "orchestrator": self.at.url,
            "provider": PROVIDER,
            "cell-id": self.cell_id,
            "region": f"{PROVIDER}-here",
            "trust": self.trust,
            "state": self.folder / "state",
            "mem-capacity": "16m",
            "block-capacity": "16m",
            **flags,
        }
        arguments = [text for name, value in wanted.items() for text in (f"--{name}", str(value))]
        self.processes.append(Process("grafos_cell.registered", arguments, self.log))
        return self.processes[-1]

    def linked(self, **flags: object) -> Process:
        """Begins, and waits for its link."""
        process = self.begin(**flags)
        process.wait_ready()
        return process

    def key_sha256(self) -> str:
        return trust.key_sha256(trust.key_from_pem((self.trust / "cell-key.pem").read_bytes()).public_key())

    def certificate(self) -> str:
        return sha256_of((self.trust / "cell.pem").read_bytes())

    def hold(self, life_s: float, age_s: float = 0.0) -> None:
        """Gives it a certificate of the orchestrator's CA that was issued so long ago, for so long; and its token."""
        key = trust.key_from_pem((self.trust / "cell-key.pem").read_bytes())
        folder, issued_at = self.at.trust, time.time() - age_s
        ca_key = trust.key_from_pem((folder / "ca-key.pem").read_bytes())
        uri = trust.spiffe_id(self.at.fabric.id, "cell", self.cell_id, PROVIDER)
        csr = trust.make_csr(key, self.cell_id)
        pem = trust.sign_csr(self.at.ca_pem, ca_key, csr, uri, issued_at, life_s)
        ends_at = issued_at + life_s
        claims = tokens.ApiClaims("orchestrator", "cell", self.cell_id, self.key_sha256(), CELL_RIGHTS, ends_at)
        token = tokens.mint_api_token((folder / "token-key").read_bytes(), claims)
        paths.write_private(self.trust / "cell-token", token.encode())
        paths.write_private(self.trust / "cell.pem", pem.encode())

    def view(self, operator: Identity) -> messages.CellView | None:
        """The cell as the orchestrator sees it."""
        with self.at.client(operator) as client:
            return next((cell for cell in client.cells() if cell.cell_id == self.cell_id), None)

    def discard(self) -> None:
        for process in self.processes:
            process.discard()


def until(condition: Callable[[], object], what: str = "it") -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not come to be in time"
        time.sleep(0.05)
