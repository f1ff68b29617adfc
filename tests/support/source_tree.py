"""The project as text: its rooms, their modules, what they import. For the tests that hold the house rules."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Module:
    """One Python file of a room; `name` as Python imports it, a package by its own name."""

    room: str
    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return parse(self.path)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@dataclass(frozen=True)
class Import:
    """`target` is a full dotted name: for `from a import b` it is `a.b`, whatever b is."""

    module: Module
    target: str
    line: int
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.module.path.relative_to(ROOT)}:{self.line} imports {self.target}"


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def settings(path: Path) -> dict[str, Any]:
    """A pyproject.toml as data."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


@cache
def rooms() -> tuple[str, ...]:
    """The workspace's members, as the root names them."""
    return tuple(settings(ROOT / "pyproject.toml")["tool"]["uv"]["workspace"]["members"])


@cache
def modules() -> tuple[Module, ...]:
    """Every module of every room."""
    found = []
    for room in rooms():
        for path in sorted((ROOT / room / f"grafos_{room}").rglob("*.py")):
            parts = path.relative_to(ROOT / room).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(room, name, path))
    return tuple(found)


def imports_of(module: Module) -> Iterator[Import]:
    """What the module imports anywhere in it, inside functions too."""
    typed_only = {id(inner) for block in type_checking_blocks(module.tree) for inner in ast.walk(block)}
    for node in ast.walk(module.tree):
        for target in targets_of(node, module):
            yield Import(module, target, getattr(node, "lineno", 0), id(node) in typed_only)


def type_checking_blocks(tree: ast.Module) -> Iterator[ast.If]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield node


def targets_of(node: ast.AST, module: Module) -> list[str]:
    """The full names that one statement, or one call of `import_module`, brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.name.split(".")
            up = node.level - 1 if module.is_package else node.level
            base = ".".join([*package[: len(package) - up], *filter(None, [base])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [name.value for name in node.args[:1] if isinstance(name, ast.Constant)]
    return []


@cache
def tracked_files() -> tuple[Path, ...]:
    """All files that git knows or would add: what a clone holds, and what the next commit may."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return tuple(path for name in sorted(set(listed)) if name and (path := ROOT / name).is_file())


def text_of(path: Path) -> str | None:
    """The file's text, or None when it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
