"""Answers of clouds as files, one for each operation and outcome, and how two of the same are compared.

A recording holds the form of an answer and nothing of its content (``live_redaction``), so it may be committed to
``tests/recordings/<cloud>/``. Where an answer came often, the fullest is kept.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from live_operations import Asked
from live_redaction import Placeholders, document_in, form_of, redacted, redacted_headers

from grafos_core.paths import write_private

SCHEMA_VERSION = 1
CODE = re.compile(r"[A-Za-z][A-Za-z_.]{1,80}")


@dataclass(frozen=True)
class Recording:
    """One answer without its content. ``of`` says whose it was: ``cloud`` or ``emulator``."""

    cloud: str
    operation: str
    status: int
    code: str
    headers: Mapping[str, str]
    body: Any
    of: str
    schema_version: int = SCHEMA_VERSION

    @property
    def name(self) -> str:
        """What it is a recording of; the file's name too."""
        return ".".join(part for part in (self.operation, str(self.status), self.code) if part)


def recording_of(asked: Asked, status: int, headers: Mapping[str, str], body: bytes, of: str) -> Recording | None:
    """The recording of an answer; None when its body is neither JSON nor XML, so that nothing of it can be shown."""
    try:
        document = document_in(body, headers)
    except (ValueError, OSError):
        return None
    placeholders = Placeholders()
    code = _code_in(document)
    return Recording(
        cloud=asked.cloud,
        operation=asked.operation,
        status=status,
        code=code,
        headers=redacted_headers(headers, placeholders),
        body=redacted(document, placeholders),
        of=of,
    )


def _code_in(document: Any) -> str:
    """The error's code, wherever the cloud writes it; of an operation that failed, its own."""
    error = _first(document)
    code = str(error.get("Code") or error.get("code") or error.get("__type") or "").rpartition("#")[2]
    if code.isdecimal():  # Google's errors have a number there, and the word beside it
        code = str((_first(error.get("errors"))).get("reason") or error.get("status") or "")
    elif not code and error.get("errors"):
        code = str(_first(error["errors"]).get("code") or "")
    return code if CODE.fullmatch(code) else ""


def _first(document: Any) -> dict[str, Any]:
    """The object in which an error would be described, or an empty one."""
    if isinstance(document, list):
        document = document[0] if document else {}
    if not isinstance(document, dict):
        return {}
    for way in (("Response", "Errors", "Error"), ("ErrorResponse", "Error"), ("error",)):
        found: Any = document
        for step in way:
            found = found.get(step) if isinstance(found, dict) else None
        if isinstance(found, dict):
            return found
    return document if "__type" in document or "reason" in document or "code" in document else {}


class Recorder:
    """Writes recordings into a folder. Safe for threads; another process may write there too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def hear(self, recording: Recording) -> None:
        """Keeps it, unless a fuller one is there."""
        file = self.folder / f"{recording.name}.json"
        with self._lock:
            held = read_one(file) if file.exists() else None
            if held is None or len(form_of(held.body)) < len(form_of(recording.body)):
                self.folder.mkdir(parents=True, exist_ok=True)
                text = json.dumps(asdict(recording), indent=1, sort_keys=True) + "\n"
                write_private(file, text.encode())


def read_one(file: Path) -> Recording:
    """A recording's file; ValueError if it is none."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        found = Recording(**said)
    except (TypeError, json.JSONDecodeError) as problem:
        raise ValueError(f"{file.name} is no recording: {problem}") from problem
    if found.schema_version != SCHEMA_VERSION or found.of not in ("cloud", "emulator"):
        raise ValueError(f"{file.name} is of another version, or of nobody")
    return found


def read_all(folder: Path) -> dict[str, Recording]:
    """All recordings of a folder by name."""
    if not folder.is_dir():
        return {}
    return {found.name: found for found in map(read_one, sorted(folder.glob("*.json")))}


def differences(recorded: Recording, answered: Recording | None, gaps: Iterable[str] = ()) -> list[str]:
    """How an emulator's answer differs in form from a recording of the same; ``gaps`` are places that it may lack."""
    name = recorded.name
    if answered is None:
        return [f"{name}: the emulator was never seen to answer so"]
    known = tuple(gaps)
    theirs, ours = _sorts(recorded.body), _sorts(answered.body)
    found = [f"{name}: {path or 'the body'} is missing" for path in _new(theirs, ours, known)]
    found += [f"{name}: {path or 'the body'} is not in the recording" for path in _new(ours, theirs, known)]
    for path in sorted(set(theirs) & set(ours)):
        same = theirs[path] & ours[path] or "empty" in theirs[path] | ours[path]
        if not same and not _is_in(path, known):
            found.append(f"{name}: {path} is {_words(ours[path])} and was {_words(theirs[path])}")
    wanting = sorted(set(recorded.headers) ^ set(answered.headers) - set(known))
    return found + [f"{name}: only one of both has the header {header}" for header in wanting]


def _new(these: Mapping[str, object], those: Mapping[str, object], known: tuple[str, ...]) -> list[str]:
    return [path for path in sorted(set(these) - set(those)) if not _is_in(path, known)]


def _is_in(path: str, known: tuple[str, ...]) -> bool:
    """Whether it is one of these places, or below one."""
    return any(path == gap or path.startswith((f"{gap}.", f"{gap}[]")) for gap in known)


def _sorts(body: Any) -> dict[str, set[str]]:
    sorts: dict[str, set[str]] = {}
    for path, sort in form_of(body):
        sorts.setdefault(path, set()).add(sort)
    return sorts


def _words(sorts: Iterable[str]) -> str:
    return " or ".join(sorted(sorts))


def folder_named(variable: str) -> Path | None:
    """The folder that an environment variable names."""
    named = os.environ.get(variable, "")
    return Path(named) if named else None
