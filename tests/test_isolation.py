"""The walls around the tests hold: each kind of way out is tried and refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import loopback_only
import pytest

# TEST-NET-1 and the documentation prefix: nobody owns them (RFC 5737, RFC 3849).
ELSEWHERE = ("192.0.2.1", 9)
ELSEWHERE_6 = ("2001:db8::1", 9)


def connect(address: tuple[str, int], family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind) as endpoint:
        endpoint.settimeout(0.01)
        endpoint.connect(address)


def send(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.sendto(b"hello", address)


def listen(address: tuple[str, int]) -> None:
    with socket.socket() as endpoint:
        endpoint.bind(address)


@pytest.mark.parametrize(
    "way_out",
    [
        lambda: connect(ELSEWHERE),
        lambda: connect(ELSEWHERE_6, socket.AF_INET6),
        lambda: connect(ELSEWHERE, kind=socket.SOCK_DGRAM),
        lambda: connect(("169.254.169.254", 80)),
        lambda: send(ELSEWHERE),
        lambda: listen(("0.0.0.0", 0)),
        lambda: listen(("", 0)),
        lambda: socket.getaddrinfo("grafos.example", 443),
        lambda: socket.gethostbyname("grafos.example"),
    ],
    ids=[
        "tcp",
        "tcp6",
        "udp",
        "metadata",
        "sendto",
        "listen-to-all",
        "listen-to-all-unnamed",
        "dns",
        "dns-old",
    ],
)
def test_a_test_that_reaches_out_is_refused(way_out: Callable[[], object], refusals: Path) -> None:
    with pytest.raises(loopback_only.LeftLoopbackError):
        way_out()
    assert refusals.read_text().startswith("socket.")


def test_loopback_itself_is_open() -> None:
    """All of 127/8 is this machine (RFC 1122, 3.2.1.3); emulated machines have their own addresses in it."""
    with socket.socket() as server:
        server.bind(("127.7.8.9", 0))
        server.listen()
        connect(server.getsockname())
    assert socket.getaddrinfo("localhost", 1)


def test_a_python_that_a_test_starts_is_refused_too(refusals: Path) -> None:
    reach_out = f"import socket; socket.create_connection({ELSEWHERE!r}, 0.01)"
    child = subprocess.run([sys.executable, "-c", reach_out], capture_output=True, text=True, check=False)
    assert child.returncode != 0
    assert "LeftLoopbackError" in child.stderr
    assert "192.0.2.1" in refusals.read_text()


def lay_out_as_here(pytester: pytest.Pytester) -> None:
    """A folder of tests under the same rules as these."""
    tests = Path(__file__).parent
    pytester.makeconftest((tests / "conftest.py").read_text())
    pytester.makeini(f"[pytest]\npythonpath = {tests / 'socket_guard'} {tests / 'support'}\n")


def test_a_swallowed_refusal_still_fails_its_test(pytester: pytest.Pytester) -> None:
    """botocore, for one, treats any trouble with the metadata service as "not on a cloud machine"."""
    lay_out_as_here(pytester)
    pytester.makepyfile(
        """
        import socket

        def test_that_swallows():
            try:
                socket.create_connection(("192.0.2.1", 9), 0.01)
            except Exception:
                pass
        """
    )
    outcome = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=1, errors=1)
    outcome.stdout.fnmatch_lines(["*left loopback*"])


def test_every_test_has_an_empty_home_of_its_own(home: Path) -> None:
    assert Path.home() == home
    assert [entry.name for entry in home.iterdir()] == ["run"]
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        assert Path(os.environ[name]).parent == home


def test_no_credentials_of_a_cloud_reach_a_test() -> None:
    assert not [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_"))]


@pytest.mark.parametrize(("in_ci", "outcome"), [("", "skipped"), ("true", "errors")])
def test_a_missing_part_is_a_skip_here_and_a_failure_in_ci(
    in_ci: str, outcome: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", in_ci)
    lay_out_as_here(pytester)
    pytester.makepyfile("import pytest\n@pytest.mark.needs('no-such-part')\ndef test_it(): pass")
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").assert_outcomes(**{outcome: 1})
