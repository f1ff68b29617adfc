"""A mirror of Debian on loopback, made from the packages that a lock names and the cache keeps, and signed by a key of
its own."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from grafos_cellimage.fetching import file_of
from grafos_cellimage.lock import Lock, Package

SUITES = {"debian": ("", "-updates"), "debian-security": ("-security",)}
SIGNER = "a mirror for tests"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def shown(folder: Path) -> Iterator[str]:
    """A server on loopback that shows a folder; its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class DebianMirror:
    """The lists and packages of one suite and architecture below ``folder``; ``keyring`` holds who signs them."""

    def __init__(self, folder: Path, lock: Lock, kept: Path) -> None:
        self.folder, self._lock = folder, lock
        self._keys = folder / "keys"
        self._keys.mkdir(mode=0o700, parents=True)
        self._gpg("--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never")
        self.keyring = folder / "keyring.gpg"
        self._gpg("--output", self.keyring, "--export")
        self._control = {package: self._control_of(package, kept) for package in lock.packages}
        for package in lock.packages:
            place = folder / package.mirror / package.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(kept / file_of(package))
        self.publish({archive.suite: archive.date for archive in lock.archives})

    def addresses(self, url: str) -> dict[str, str]:
        return {name: f"{url}/{name}" for name in SUITES}

    def publish(self, dates: Mapping[str, str]) -> None:
        """Lists of all, of that date, signed."""
        for mirror, kinds in SUITES.items():
            for kind in kinds:
                suite = f"{self._lock.suite}{kind}"
                listed = (
                    []
                    if kind == "-updates"
                    else [about for one, about in self._control.items() if one.mirror == mirror]
                )
                if not kind:
                    listed.append(self._newest_kernel())
                self._publish(self.folder / mirror / "dists" / suite, suite, "\n".join(listed), dates[suite])
        # Its agent would outlive the test.
        subprocess.run(["gpgconf", "--homedir", self._keys, "--kill", "gpg-agent"], check=True)

    def _publish(self, place: Path, suite: str, listed: str, date: str) -> None:
        name = f"main/binary-{self._lock.arch}/Packages"
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(listed)
        digest = hashlib.sha256(listed.encode()).hexdigest()
        release = (
            f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: {date}\nArchitectures: {self._lock.arch}\n"
            f"Components: main\nSHA256:\n {digest} {len(listed.encode())} {name}\n"
        )
        (place / "Release").write_text(release)
        self._gpg("--output", place / "InRelease", "--clearsign", place / "Release")

    def _newest_kernel(self) -> str:
        return (
            f"Package: linux-image-cloud-{self._lock.arch}\nVersion: 1\nArchitecture: {self._lock.arch}\n"
            f"Depends: linux-image-{self._lock.kernel_release}\nFilename: none\nSize: 1\nSHA256: {'0' * 64}\n"
        )

    def _control_of(self, package: Package, kept: Path) -> str:
        told = subprocess.run(
            ["dpkg-deb", "--field", kept / file_of(package)], capture_output=True, text=True, check=True
        ).stdout.strip()
        return f"{told}\nFilename: {package.path}\nSize: {package.size_bytes}\nSHA256: {package.sha256}\n"

    def _gpg(self, *words: str | Path) -> None:
        options = ("--homedir", self._keys, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback")
        subprocess.run(["gpg", *options, *words], check=True, capture_output=True)
