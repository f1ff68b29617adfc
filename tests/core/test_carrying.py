"""What carries a virtual machine's connection to a place on this machine, as QEMU runs it."""

from __future__ import annotations

import socket
import subprocess

import pytest

from grafos_core.virtual_machines import HOST, way_to

PATIENCE_S = 60.0


def begin(port: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The program, and QEMU's side of what it has for input and output."""
    ours, its = socket.socketpair()
    way = way_to(HOST, 8443, "127.0.0.1", port)
    with its:
        program = subprocess.Popen(way.program, stdin=its, stdout=its, stderr=subprocess.DEVNULL)
    ours.settimeout(PATIENCE_S)
    return program, ours


def test_a_machines_connection_is_carried_both_ways_and_ends_with_either() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        program, machine = begin(door.getsockname()[1])
        visitor, _ = door.accept()
        visitor.settimeout(PATIENCE_S)
        with visitor, machine:
            machine.sendall(b"a" * 200_000)
            assert sum(len(visitor.recv(65536)) for _ in range(1)) > 0
            visitor.sendall(b"an answer")
            assert machine.recv(65536) == b"an answer"
        assert program.wait(PATIENCE_S) is not None


def test_who_has_said_all_is_still_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        program, machine = begin(door.getsockname()[1])
        visitor, _ = door.accept()
        visitor.settimeout(PATIENCE_S)
        with machine:
            machine.sendall(b"a question")
            machine.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: visitor.recv(100), b"")) == b"a question"
            visitor.sendall(b"an answer")
            visitor.close()
            assert b"".join(iter(lambda: machine.recv(100), b"")) == b"an answer"
        assert program.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("words", [b"", b"a word"])
def test_it_ends_when_its_machine_is_gone_though_nobody_else_says_a_word(words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        program, machine = begin(door.getsockname()[1])
        visitor, _ = door.accept()
        with visitor:
            machine.sendall(words)
            machine.close()
            assert program.wait(PATIENCE_S) is not None
