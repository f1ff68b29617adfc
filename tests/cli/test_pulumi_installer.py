"""Pulumi's command line is fetched for grafos alone, by the installer of Pulumi's own library, once somebody agrees.

The place that it comes from stands on loopback here, behind a proxy, with a certificate that this test trusts; what its
script installs is the part's engine.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import parts
import pytest
from command_line import Person
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from grafos_core import trust

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(300)]
ASKED = ("cloud", "provision", "aws", "--region", "us-east-1", "--engine", "pulumi", "--yes")
SITE = "get.pulumi.com"
INSTALLS = """#!/bin/sh
while [ "$1" != --install-root ]; do shift; done
mkdir -p "$2/bin" && ln -s '{engine}' "$2/bin/pulumi"
"""
BREAKS = """#!/bin/sh
while [ "$1" != --install-root ]; do shift; done
mkdir -p "$2/bin" && touch "$2/bin/pulumi"
echo 'the archive could not be unpacked'
exit 3
"""


class Site:
    """A proxy that leads to one host, and is that host."""

    def __init__(self, folder: Path) -> None:
        self.script = ""
        self.asked: list[str] = []
        self.ca_file, own = folder / "web-ca.pem", folder / "web.pem"
        key = trust.new_key()
        certificate = _certificate(key)
        self.ca_file.write_bytes(certificate)
        own.write_bytes(certificate + trust.key_to_pem(key))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(own)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._door.accept()
            except OSError:
                return
            with line:
                line.settimeout(30)
                self.asked.append(_head(line).split()[1])
                line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                with self._tls.wrap_socket(line, server_side=True) as inner:
                    self.asked.append(_head(inner).split()[1])
                    body = self.script.encode()
                    inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def _certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The site's, signed by itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, SITE)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number()).not_valid_before(now)
    builder = builder.not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(SITE)]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _head(line: socket.socket) -> str:
    said = b""
    while b"\r\n\r\n" not in said:
        if not (more := line.recv(4096)):
            break
        said += more
    return said.decode()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture
def somebody(tmp_path: Path, site: Site) -> Person:
    person = Person(tmp_path)
    person.env |= {
        "PATH": "/usr/bin:/bin",
        "AWS_EC2_METADATA_DISABLED": "true",
        "https_proxy": f"http://127.0.0.1:{site.port}",
        "SSL_CERT_FILE": str(site.ca_file),
    }
    return person


def test_it_is_fetched_into_the_fabric_s_home_and_found_there_from_then_on(somebody: Person, site: Site) -> None:
    site.script = INSTALLS.format(engine=parts.table().pulumi_engine())
    first = somebody(*ASKED)
    assert "fetch pulumi: done in" in first.err
    assert site.asked == [f"{SITE}:443", "/install.sh"]
    assert (somebody.fabric_home / "pulumi" / "engine" / "bin" / "pulumi").exists()
    assert "fetch pulumi" not in somebody(*ASKED).err
    assert len(site.asked) == 2  # and program, engine and provider spoke to each other past the proxy


def test_what_could_not_be_fetched_leaves_nothing_and_says_why(somebody: Person, site: Site) -> None:
    site.script = BREAKS
    broken = somebody(*ASKED)
    assert (broken.error_code, "the archive could not be unpacked" in broken.err) == ("unsupported", True), broken.err
    offline = somebody(*ASKED, env={"https_proxy": "http://127.0.0.1:1"})
    assert (offline.error_code, "where there is a network" in offline.err) == ("unsupported", True), offline.err
    assert [place.name for place in (somebody.fabric_home / "pulumi").iterdir()] == []
