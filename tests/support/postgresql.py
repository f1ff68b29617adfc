"""A PostgreSQL server of the tests' own: real, on loopback, with its data in a folder of its own, and not durable.

The server refuses to run as root, and so root starts it as `nobody`.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import parts

from grafos_core import trust

READY_S_MAX = 60.0
USER, PASSWORD = "grafos", "pass:word/4711"
NOBODY = 65534
# What a crash of the machine would need, and no crash of a process does.
FAST = ("fsync=off", "synchronous_commit=on", "full_page_writes=off", "max_connections=40", "shared_buffers=16MB")


@functools.cache
def program(name: str) -> str:
    return str(parts.table().find_postgresql() / name)


class Server:
    """One server; ``start`` and ``kill`` as often as wanted, ``discard`` at the end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="grafos-postgresql-"))
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.port = _free_port()
        self.ca_file = self.folder / "ca.pem"
        self._make_certificate()
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for place in (self.folder, *self.folder.iterdir()):
                os.chown(place, NOBODY, NOBODY)
        self._run(
            "initdb", "--pgdata", "data", "--username", USER, "--pwfile", "password", "--auth", "scram-sha-256",
            "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions",
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Starts the server, also after it was killed, and waits until it answers."""
        until = time.monotonic() + READY_S_MAX
        while not self._is_up():
            if self._process is None or self._process.poll() is not None:
                self._process = self._begin()
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """As the machine's kernel would: without a word. Its children notice and go."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def discard(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(READY_S_MAX)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, password: str = "", **options: str) -> str:
        """Without a password it is that of ``environment``."""
        secret = f":{password}" if password else ""
        more = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{USER}{secret}@127.0.0.1:{self.port}/{database}{f'?{more}' if more else ''}"

    def make(self, database: str) -> str:
        """A new, empty database; gives its name."""
        self.sql("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)", f"CREATE DATABASE {database}")
        return database

    def sql(self, database: str, *statements: str) -> str:
        commands = [text for statement in statements for text in ("--command", statement)]
        return self._run("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", *commands, self.url(database))

    def dump(self, database: str) -> bytes:
        return self._run("pg_dump", "--format", "custom", self.url(database), text=False)

    def restore(self, database: str, dump: bytes) -> None:
        self._run("pg_restore", "--no-owner", "--exit-on-error", "--dbname", self.url(database), text=False, given=dump)

    def _run(self, name: str, *arguments: str, text: bool = True, given: Any = None) -> Any:
        done = subprocess.run(
            [program(name), *arguments],
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=text,
            check=False,
            **self._identity,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": PASSWORD, "LC_ALL": "C", "PATH": os.defpath}

    def _begin(self) -> subprocess.Popen[bytes]:
        settings = (
            *FAST,
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self.folder}",
            "ssl=on",
            f"ssl_cert_file={self.folder / 'server.pem'}",
            f"ssl_key_file={self.folder / 'server-key.pem'}",
        )
        words = [text for setting in settings for text in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [program("postgres"), "-D", "data", *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._identity,
            )

    def _is_up(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        asked = [program("pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        return subprocess.run(asked, env=self.environment, check=False).returncode == 0

    def _make_certificate(self) -> None:
        now, authority, key = time.time(), trust.new_key(), trust.new_key()
        ca = trust.make_ca(authority, "the database's", now)
        uri = trust.spiffe_id("fab", "scheduler", "database")
        leaf = trust.sign_csr(ca, authority, trust.make_csr(key, "database"), uri, now, 86400, ("127.0.0.1",))
        self.ca_file.write_text(ca)
        (self.folder / "server.pem").write_text(leaf)
        (self.folder / "server-key.pem").write_bytes(trust.key_to_pem(key))
        (self.folder / "server-key.pem").chmod(0o600)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
