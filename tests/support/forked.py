"""`grafos` in a process of its own that is forked from one that has imported everything, and so starts at once.

What runs is the program from `main` to its exit, as a child with its own arguments, folder, variables and streams. Only
reading the same modules from disk again is spared, which is most of what a short command does. Where that is the claim
(what is imported, and what Python or a library reads from its environment first) the program is started from its file.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import asking
import forking

GRAFOS = Path(sys.executable).with_name("grafos")
READ_AT_START = ("GOOGLE_API_", "GRPC_", "LANG", "LC_", "PROTOCOL_", "PYTHON", "TYPER_", "_TYPER_")
"""Variables that Python or a library reads when it is started or imported: who changes one starts from the file."""
STDIN_BYTES_MAX = 32 * 1024  # a pipe takes this without a reader
FRONT = """\
#!{python} -IS
import sys

sys.path.append({support!r})
import asking

sys.exit(asking.front({address!r}, {grafos!r}))
"""


class Forks:
    """The process that others are forked from."""

    def __init__(self) -> None:
        self._variables = read_at_start(os.environ)
        self._folder = Path(tempfile.mkdtemp(prefix="grafos-forks-"))
        self._address = str(self._folder / "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-P", forking.__file__, self._address],
            stdin=subprocess.PIPE,  # pipes, as the streams of a command are, which take their place
            stdout=subprocess.PIPE,
        )
        atexit.register(self.close)

    def fits(self, variables: Mapping[str, str]) -> bool:
        """Whether there is something to fork, and with these variables it would have been the same at its start."""
        return read_at_start(variables) == self._variables and asking.listens(self._address)

    def run(
        self, words: tuple[str, ...], cwd: Path, variables: Mapping[str, str], stdin: str, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of the program with text captured."""
        heard = stdin.encode()
        assert len(heard) <= STDIN_BYTES_MAX
        (in_reads, in_writes), (reads, writes), (errors, tells) = (os.pipe() for _ in range(3))
        with os.fdopen(in_writes, "wb") as pipe:
            pipe.write(heard)
        asked = asking.ask(self._address, words, str(cwd), asking.current_umask(), variables, (in_reads, writes, tells))
        with contextlib.closing(asked):
            for theirs in (in_reads, writes, tells):
                os.close(theirs)
            number = int(asked.recv(asking.ANSWER_BYTES_MAX))
            late = threading.Timer(timeout_s, _kill, [number])
            late.start()
            said: list[str] = []
            beside = threading.Thread(target=lambda: said.append(_all_of(errors)))
            beside.start()
            out = _all_of(reads)
            beside.join()
            code = int(asked.recv(asking.ANSWER_BYTES_MAX))
        if late.finished.is_set() and code == -signal.SIGKILL:
            raise subprocess.TimeoutExpired(words, timeout_s, out, said[0])
        late.cancel()
        return subprocess.CompletedProcess(words, code, out, said[0])

    def front(self) -> Path:
        """A folder for a shell's `PATH`: its `grafos` asks for a fork."""
        folder = self._folder / "bin"
        if not folder.exists():
            folder.mkdir()
            program = folder / "grafos"
            support = str(Path(__file__).parent)
            program.write_text(
                FRONT.format(python=sys.executable, support=support, address=self._address, grafos=str(GRAFOS))
            )
            program.chmod(0o755)
        return folder

    def close(self) -> None:
        self._process.communicate()
        shutil.rmtree(self._folder)


def _kill(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def _all_of(stream: int) -> str:
    with os.fdopen(stream) as text:
        return text.read()


def read_at_start(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith(READ_AT_START)}


@functools.cache
def forks() -> Forks:
    """The one of this test process."""
    return Forks()
