"""Pages of the documentation as programs: their fenced blocks, and a shell that runs them in the order of the page.

A comment right before a block says what to do with it; it is not seen on the site:

    <!-- file: PATH -->          the block is the whole file of that name
    <!-- part of: PATH -->       the file of that name has these lines
    <!-- not run: REASON -->     the block stays a picture, for the reason
    <!-- exit code: N -->        its last command ends so, and not with 0
    <!-- Ctrl-C after: WORDS --> its one command is stopped, once it has said that
    <!-- needs: PART -->         anywhere: the page needs a part of tools/parts.py

A `text` or `json` block after commands is what they printed: its lines, in this order, with `…` for what differs each
time. `RUN_ID` in commands stands for the id of the run that was printed last, as the pages tell their readers.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from forked import forks
from markdown_it import MarkdownIt
from source_tree import ROOT

DOCS = ROOT / "docs"
COMMANDS = ("sh",)
ANSWERS = ("text", "json")
KINDS = ("file", "part of", "not run", "exit code", "Ctrl-C after", "needs")
BLOCK_TIMEOUT_S = 500  # the whole page has 600; a machine with much else to do is slow
RUN_ID = re.compile(r"\brun-[0-9a-f]{6}-[0-9a-f]{6}-[a-z2-7]{16}\b")
DIRECTIVE = re.compile(r"<!-- (" + "|".join(KINDS) + r"): (.+?) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block, with what the comment before it says."""

    language: str
    text: str
    line: int
    said: dict[str, str] = field(default_factory=dict)


def pages() -> list[Path]:
    """The pages whose blocks are run: what teaches. Pages of reference have tests of their own."""
    folders = ("tutorial", "how-to", "runbooks", "concepts")
    taught = [path for folder in folders for path in sorted((DOCS / folder).glob("*.md"))]
    return [DOCS / "index.md", *taught, ROOT / "CONTRIBUTING.md"]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """The page's blocks from top to bottom; blocks of the site's own directives are none."""
    found: list[Block] = []
    said: dict[str, str] = {}
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block":
            said = dict(DIRECTIVE.findall(token.content))
        elif token.type == "fence":
            if not token.info.startswith("{"):
                found.append(Block(token.info.strip(), token.content, (token.map or [0])[0] + 1, said))
            said = {}
        elif token.type != "paragraph_close":
            said = {}
    return found


def parts_of(page: Path) -> list[str]:
    """Which parts of tools/parts.py the page needs."""
    return re.findall(r"<!-- needs: (\w+) -->", page.read_text())


def not_run(page: Path) -> Iterator[str]:
    """The reason of each block that is not run."""
    return (block.said["not run"] for block in blocks_of(page) if "not run" in block.said)


class Shell:
    """A person's shell: folder and variables live on from block to block."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.printed, self.run_id = "", ""

    def run(self, block: Block) -> None:
        """Runs the commands; the first that fails ends the block, and must be one that is said to fail."""
        script = block.text.replace("RUN_ID", self.run_id or "RUN_ID")
        after = block.said.get("Ctrl-C after")
        code = self._stopped(script, after) if after else self._to_its_end(script)
        self.run_id = (RUN_ID.findall(self.printed) or [self.run_id])[-1]
        wanted = int(block.said.get("exit code", "0"))
        assert code == wanted, f"line {block.line}: exit code {code} from\n{script}{self.printed}"

    def write(self, block: Block) -> None:
        """Makes the file that the block is."""
        path = self.folder / block.said["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def check(self, block: Block) -> None:
        """What the last commands printed has the block's lines, in their order."""
        at = 0
        for line in filter(None, (line.strip() for line in block.text.splitlines())):
            words = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
            found = re.compile(r".*?".join(words)).search(self.printed, at)
            assert found, f"line {block.line}: {line!r} was not printed in\n{self.printed}"
            at = found.end()

    def _to_its_end(self, script: str) -> int:
        kept = self.folder.parent / "shell"  # where the shell leaves its folder and its variables
        kept.mkdir(exist_ok=True)
        ending = f'trap \'pwd > "{kept}/folder"; env -0 > "{kept}/variables"\' EXIT\n'
        done = subprocess.run(
            ["bash", "-c", f"{ending}set -eo pipefail\n{script}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_TIMEOUT_S,
            check=False,
        )
        self.printed = done.stdout
        self.folder = Path((kept / "folder").read_text().strip())
        pairs = (kept / "variables").read_text().split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        return done.returncode

    def _stopped(self, script: str, words: str) -> int:
        self.printed = ""
        with subprocess.Popen(
            ["bash", "-c", f"exec {script}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as child:
            limit = threading.Timer(BLOCK_TIMEOUT_S, child.kill)
            limit.start()
            for line in child.stdout or ():
                self.printed += line
                if words in line:
                    child.send_signal(signal.SIGINT)
            code = child.wait()
            limit.cancel()
        return code


def walk(page: Path, shell: Shell) -> None:
    """Runs the page from its first block to its last."""
    for block in blocks_of(page):
        if "not run" in block.said or not block.language:
            continue
        if "file" in block.said:
            shell.write(block)
        elif "part of" in block.said:
            assert block.text in (shell.folder / block.said["part of"]).read_text(), f"line {block.line}"
        elif block.language in COMMANDS:
            shell.run(block)
        elif block.language in ANSWERS:
            shell.check(block)
        else:
            raise AssertionError(f"line {block.line}: nobody knows what to do with this {block.language} block")


@contextlib.contextmanager
def shell_in(folder: Path) -> Iterator[Shell]:
    """A shell in an empty folder, of somebody with an empty home. Whatever becomes of the page, nothing that it started
    goes on running."""
    place = folder / "here"
    place.mkdir()
    somebody = Shell(place, {**os.environ, "COLUMNS": "100"})
    programs = [str(forks().front()), str(Path(sys.executable).parent), somebody.environment["PATH"]]
    somebody.environment["PATH"] = os.pathsep.join(programs)
    somebody.environment["XDG_CACHE_HOME"] = str(Path(os.environ["GRAFOS_TEST_REFUSALS"]).with_name("cache"))
    try:
        yield somebody
    finally:
        _end_all_of(somebody, folder)


def _end_all_of(somebody: Shell, folder: Path) -> None:
    ends = [(path.parents[2], "dev") for path in folder.rglob(".grafos/dev/dev.json")] + [(folder, "emulate")]
    for place, what in ends:
        subprocess.run(["grafos", what, "down"], cwd=place, env=somebody.environment, capture_output=True, check=False)
    for file in folder.rglob("*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGTERM)
