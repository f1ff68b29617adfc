"""A standalone cell as real processes on loopback, for tests: the scheduler, and whoever speaks to it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grafos_core import trust
from grafos_core.fabric import fabric_id
from grafos_core.receipts import BudgetSlice, Signed, sign_record
from grafos_scheduler import messages
from grafos_scheduler.claiming_client import claim
from grafos_scheduler.client import SchedulerClient

READY_S_MAX = 60.0
HEARTBEAT_EVERY_S = 0.5
CELL_ID, PROVIDER, OPERATOR = "cell-1", "local", "ada"


class FabricKey:
    """The fabric that owns the cell: its key, and what it signs."""

    def __init__(self) -> None:
        self.key = trust.new_key()
        self.pem = trust.public_key_to_pem(self.key.public_key())
        self.id = fabric_id(self.key.public_key())

    def slice(self, tenant: str, **other: object) -> Signed:
        fields = {
            "fabric": self.id,
            "slice_id": f"slice-{secrets.token_hex(8)}",
            "scheduler": CELL_ID,
            "tenant": tenant,
            "amount_micro_cents": 10**9,
            "expires_at": time.time() + 3600,
        }
        return sign_record(BudgetSlice(**{**fields, **other}), self.key)


@dataclass
class Identity:
    """A certificate, its key and a token, as files and text."""

    certificate: Path
    key: Path
    token: str


class Process:
    """One of our programs, started with a pipe on which it says that it is ready."""

    def __init__(self, module: str, arguments: list[str], log: Path, keep: Sequence[int] = ()) -> None:
        reading, writing = os.pipe()
        with log.open("ab") as err:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, "--ready-fd", str(writing)],
                pass_fds=[writing, *keep],
                stdout=subprocess.DEVNULL,
                stderr=err,
            )
        os.close(writing)
        self._reading = os.fdopen(reading)
        self.log = log

    def wait_ready(self) -> dict[str, object]:
        """What the program wrote when it was ready; fails the test with its log when it ended instead."""
        with self._reading:
            line = self._reading.readline()
        if not line:
            raise AssertionError(f"ended with {self.popen.wait()}:\n{self.log.read_text()}")
        return json.loads(line)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and waits; gives the exit code."""
        self.popen.send_signal(number)
        self._reading.close()
        return self.popen.wait(READY_S_MAX)

    def discard(self) -> None:
        self._reading.close()
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()


class Standalone:
    """A cell's scheduler with its folders, which outlive its processes."""

    def __init__(self, folder: Path, **flags: object) -> None:
        self.folder = folder
        self.fabric = FabricKey()
        self.secret = secrets.token_bytes(32)
        self.secret_file = folder / "claim-secret"
        self.secret_file.write_text(self.secret.hex())
        self.flags = {"healthy-after-s": 0, "heartbeat-every-s": HEARTBEAT_EVERY_S, **flags}
        self.port = 0
        self.url = ""
        self.scheduler: Process | None = None
        self.daemon: Process | None = None
        self._people = folder / "people"
        self._people.mkdir()

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def trust(self) -> Path:
        return self.folder / "trust"

    @property
    def ca_pem(self) -> str:
        return (self.trust / "ca.pem").read_text()

    def arguments(self) -> list[str]:
        given = {
            "mode": "cell",
            "auth-mode": "mtls+token",
            "bind": f"127.0.0.1:{self.port}",
            "state": self.state,
            "trust": self.trust,
            "fabric": self.fabric.id,
            "cell-id": CELL_ID,
            "provider": PROVIDER,
            "region": "here",
            "claim-secret-file": self.secret_file,
            **self.flags,
        }
        return [text for name, value in given.items() for text in (f"--{name}", str(value))]

    def start(self) -> Standalone:
        """Starts the scheduler; after the first time always on the same port."""
        self.scheduler = Process("grafos_scheduler", self.arguments(), self.folder / "scheduler.log")
        self.url = str(self.scheduler.wait_ready()["url"])
        self.port = int(self.url.rpartition(":")[2])
        return self

    def start_cell(self) -> Standalone:
        """Starts the cell's daemon and waits for its link."""
        self.begin_cell().wait_ready()
        return self

    def begin_cell(self, **flags: object) -> Process:
        """Starts the cell's daemon."""
        given = {
            "scheduler": self.url,
            "trust": self.trust,
            "state": self.folder / "cell-state",
            "mem-capacity": "16m",
            **flags,
        }
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        self.daemon = Process("grafos_cell", ["control-server", *arguments], self.folder / "cell.log")
        return self.daemon

    def claim(self, csr_pem: str, **other: object) -> messages.ClaimGrant:
        given = {
            "secret": self.secret,
            "fabric": self.fabric.id,
            "fabric_key_pem": self.fabric.pem,
            "operator": OPERATOR,
            "csr_pem": csr_pem,
            "cell_id": CELL_ID,
            **other,
        }
        secret = given.pop("secret")
        return claim(self.url, secret, **given)

    def request(self, name: str) -> str:
        """A certificate request; its key stays in a file under that name."""
        key = trust.new_key()
        (self._people / f"{name}-key.pem").write_bytes(trust.key_to_pem(key))
        return trust.make_csr(key, name)

    def identity(self, name: str, certificate_pem: str, token: str) -> Identity:
        """Keeps what was granted for the request of that name."""
        certificate = self._people / f"{name}.pem"
        certificate.write_text(certificate_pem)
        return Identity(certificate, self._people / f"{name}-key.pem", token)

    def client(self, identity: Identity, **other: object) -> SchedulerClient:
        return SchedulerClient(self.url, self.ca_pem, identity.certificate, identity.key, identity.token, **other)

    def claimed(self) -> Identity:
        """The operator, after a claim and the call that closes it."""
        grant = self.claim(self.request("operator"))
        operator = self.identity("operator", grant.certificate_pem, grant.api_token)
        with self.client(operator) as client:
            client.set_terms(messages.Terms(rate_micro_cents_per_hour=36_000_000))
        return operator

    def tenant(self, operator: Identity, name: str, **slice_fields: object) -> Identity:
        """A tenant with a slice of budget."""
        request = messages.TenantRequest(name, self.request(name), self.fabric.slice(name, **slice_fields))
        with self.client(operator) as client:
            grant = client.register_tenant(request)
        return self.identity(name, grant.certificate_pem, grant.api_token)

    def cell(self) -> Identity:
        """What the daemon beside the scheduler shows."""
        return Identity(self.trust / "cell.pem", self.trust / "cell-key.pem", (self.trust / "cell-token").read_text())

    def discard(self) -> None:
        for process in (self.daemon, self.scheduler):
            if process is not None:
                process.discard()


@dataclass
class Town:
    """A claimed cell without its daemon, and who may speak to it."""

    cell: Standalone
    operator: Identity
    acme: Identity
    globex: Identity
    agent: Identity
