"""Source: proc(5), the columns of /proc/net/tcp."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from grafos_emulators.peers import column, is_trusted, owner_in

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: 0100007F:8D2B 0100007F:804A 01 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1 0 20 0 0 10 -1\n"
CLIENT, SERVER = "0100007F:8D2B", "0100007F:804A"


def test_the_owner_of_a_socket_is_told_by_both_its_ends() -> None:
    table = HEAD + ROW.format(uid=1000, inode=159586)
    assert owner_in(table, CLIENT, SERVER) == 1000
    assert owner_in(table, SERVER, CLIENT) is None


def test_a_connection_that_nobody_holds_is_nobodys() -> None:
    """The kernel shows it as root's."""
    assert owner_in(HEAD + ROW.format(uid=0, inode=0), CLIENT, SERVER) is None


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_our_own_connection_is_trusted_and_one_that_is_not_there_is_not(opened: ExitStack) -> None:
    listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    opened.enter_context(socket.create_connection(listener.getsockname()))
    taken, address = listener.accept()
    opened.enter_context(taken)
    assert is_trusted(address, taken.getsockname())
    assert not is_trusted(("127.0.0.1", 1), taken.getsockname())


@pytest.mark.skipif(sys.byteorder != "little", reason="the expected text is a little-endian host's")
def test_an_ipv6_socket_that_speaks_ipv4_is_in_the_other_table() -> None:
    assert column(socket.AF_INET, ("127.0.0.1", 0x8D2B)) == CLIENT
    assert column(socket.AF_INET6, ("127.0.0.1", 0x8D2B)) == "0000000000000000FFFF0000" + CLIENT
