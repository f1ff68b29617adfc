"""A door: the fabric's key gets a client through a TLS handshake, and nobody else, and it makes no server."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from grafos_core import trust

FABRIC = "fab-0123456789ab"


class Cell:
    """A standalone cell's CA, its server, and the door for a fabric's key."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, time.time()
        self.ca_key, self.fabric_key = trust.new_key(), trust.new_key()
        self.ca_pem = trust.make_ca(self.ca_key, "grafos cell aws-1", self.now, has_door=True)
        self.door = trust.make_door(self.ca_pem, self.ca_key, FABRIC, self.fabric_key.public_key(), self.now)
        (folder / "ca.pem").write_text(self.ca_pem)

    def leaf(self, name: str, issuer_pem: str, issuer_key: trust.PrivateKey, more_pem: str = "") -> tuple[Path, Path]:
        """The files of a server's certificate and key."""
        key = trust.new_key()
        uri = trust.spiffe_id(FABRIC, "scheduler", "aws-1")
        csr = trust.make_csr(key, "server")
        pem = trust.sign_csr(issuer_pem, issuer_key, csr, uri, self.now, 3600.0, ("127.0.0.1",))
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        certificate.write_text(pem + more_pem)
        key_file.write_bytes(trust.key_to_pem(key))
        return certificate, key_file

    def server(self) -> ssl.SSLContext:
        certificate, key = self.leaf("server", self.ca_pem, self.ca_key)
        context = trust.server_context(certificate, key, self.folder / "ca.pem", ["http/1.1"])
        context.load_verify_locations(cadata=self.door)
        return context


def shakes_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Whether both sides come to an end of the handshake, and the server then hears a word."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    try:
        for step in (here.do_handshake, there.do_handshake, here.do_handshake, there.do_handshake):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
        here.write(b"word")
        return there.read(4) == b"word"
    except ssl.SSLError:
        return False


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return Cell(tmp_path)


def test_the_holder_of_the_fabrics_key_gets_through_and_nobody_else(cell: Cell) -> None:
    server, now = cell.server(), cell.now
    assert shakes_hands(server, trust.visitor_context(FABRIC, cell.fabric_key, now))
    assert not shakes_hands(server, trust.visitor_context(FABRIC, trust.new_key(), now))
    assert not shakes_hands(server, trust.visitor_context(FABRIC, cell.fabric_key, now - 2 * trust.VISITOR_LIFE_S))
    assert not shakes_hands(server, trust.unverified_context())


def test_a_visitor_is_nobody(cell: Cell) -> None:
    pem = trust.make_visitor(FABRIC, cell.fabric_key, trust.new_key().public_key(), cell.now)
    with pytest.raises(Exception, match="names no identity"):
        trust.peer_of(trust.certificate_der(pem))


def test_what_the_fabrics_key_signs_is_no_server_of_the_cell_s(cell: Cell) -> None:
    client = trust.client_context(cell.ca_pem, *cell.leaf("client", cell.ca_pem, cell.ca_key))
    assert shakes_hands(cell.server(), client)
    impostor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    impostor.load_cert_chain(*cell.leaf("impostor", cell.door, cell.fabric_key, cell.door))
    assert not shakes_hands(impostor, client)


def test_a_ca_without_a_door_vouches_for_no_other_ca(cell: Cell, tmp_path: Path) -> None:
    cell.ca_pem = trust.make_ca(cell.ca_key, "grafos orchestrator", cell.now)
    (tmp_path / "ca.pem").write_text(cell.ca_pem)
    cell.door = trust.make_door(cell.ca_pem, cell.ca_key, FABRIC, cell.fabric_key.public_key(), cell.now)
    assert not shakes_hands(cell.server(), trust.visitor_context(FABRIC, cell.fabric_key, cell.now))
