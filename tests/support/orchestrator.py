"""An orchestrator as a real process on loopback, and cells that enrol at it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from raw_link import RawLink
from standalone import Identity, Process, Standalone

from grafos_core import trust
from grafos_core.resources import Resources
from grafos_scheduler import frames, messages
from grafos_scheduler.enrolment_messages import BootstrapRequest, CellCredentials
from grafos_scheduler.orchestrator_client import OrchestratorClient, enrol
from grafos_scheduler.tenant_messages import TenantAsked

NAME = "orchestrator"
RATE = 36_000_000
HAS = Resources(cpu_cores=4, mem_bytes=64 * 1024 * 1024, block_bytes=16 * 1024 * 1024)


class Orchestrator(Standalone):
    """An orchestrator with its folders, which outlive its processes."""

    def arguments(self) -> list[str]:
        given = {
            "mode": "orchestrator",
            "auth-mode": "mtls+token",
            "bind": f"127.0.0.1:{self.port}",
            "state": self.state,
            "trust": self.trust,
            "fabric": self.fabric.id,
            "claim-secret-file": self.secret_file,
            **self.flags,
        }
        return [text for name, value in given.items() for text in (f"--{name}", str(value))]

    def claim(self, csr_pem: str, **other: object) -> messages.ClaimGrant:
        return super().claim(csr_pem, **{"cell_id": NAME, **other})

    def client(self, identity: Identity, **other: object) -> OrchestratorClient:
        return OrchestratorClient(self.url, self.ca_pem, identity.certificate, identity.key, identity.token, **other)

    def bootstrap(self, operator: Identity, cell_id: str, provider: str = "aws", **other: object) -> str:
        """A bootstrap token for a cell."""
        asked = BootstrapRequest(provider, cell_id, f"{provider}-here", RATE, **other)
        with self.client(operator) as client:
            return client.bootstrap(asked).token

    def enrol(self, token: str, csr_pem: str) -> CellCredentials:
        return enrol(self.url, self.ca_pem, token, csr_pem)

    def employ(self, operator: Identity, name: str, **asked: object) -> Identity:
        """A tenant of the orchestrator."""
        with self.client(operator) as client:
            grant = client.create_tenant(TenantAsked(name, self.request(name), **asked))
        return self.identity(name, grant.certificate_pem, grant.api_token)

    def joined(self, operator: Identity, cell_id: str, provider: str = "aws") -> Member:
        """A cell that has enrolled."""
        token = self.bootstrap(operator, cell_id, provider)
        granted = self.enrol(token, self.request(cell_id))
        return Member(self, cell_id, provider, self.identity(cell_id, granted.certificate_pem, granted.api_token))


@dataclass
class Member:
    """An enrolled cell: who it is, and what it can do."""

    at: Orchestrator
    cell_id: str
    provider: str
    identity: Identity

    def register(self, total: Resources = HAS, **other: object) -> messages.CellRegistered:
        said = messages.CellRegistration(self.cell_id, self.provider, "", "test", total, **other)
        with self.at.client(self.identity) as client:
            return client.register_cell(said)

    def link(self) -> RawLink:
        """A link on which the test plays the cell; it has said nothing yet."""
        return RawLink(self.at, self.identity)

    def hello(self, link: RawLink, **other: object) -> frames.DownFrame | None:
        return link.hello(cell_id=self.cell_id, **other)

    def short_lived(self, life_s: float) -> Member:
        """The same cell with a certificate that runs out so soon, signed by the orchestrator's own CA."""
        ca_key = trust.key_from_pem((self.at.trust / "ca-key.pem").read_bytes())
        uri = trust.spiffe_id(self.at.fabric.id, "cell", self.cell_id, self.provider)
        csr_pem = trust.make_csr(key_of(self.identity), self.cell_id)
        pem = trust.sign_csr(self.at.ca_pem, ca_key, csr_pem, uri, time.time(), life_s)
        certificate = self.at.folder / f"{self.cell_id}-short.pem"
        certificate.write_text(pem)
        return replace(self, identity=replace(self.identity, certificate=certificate))

    def trust_folder(self) -> Path:
        """The trust folder of the cell's machine, with what was granted."""
        folder = self.at.folder / f"{self.cell_id}-trust"
        folder.mkdir(exist_ok=True)
        (folder / "ca.pem").write_text(self.at.ca_pem)
        (folder / "cell.pem").write_text(self.identity.certificate.read_text())
        (folder / "cell-key.pem").write_bytes(self.identity.key.read_bytes())
        (folder / "cell-token").write_text(self.identity.token)
        return folder

    def begin(self) -> Process:
        """The cell's daemon."""
        given = {
            "scheduler": self.at.url,
            "trust": self.trust_folder(),
            "state": self.at.folder / f"{self.cell_id}-state",
            "mem-capacity": "16m",
        }
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        return Process("grafos_cell", ["control-server", *arguments], self.at.folder / f"{self.cell_id}.log")


def key_of(identity: Identity) -> trust.PrivateKey:
    return trust.key_from_pem(Path(identity.key).read_bytes())
