"""Where grafos keeps things, and how it writes what must not be lost or seen.

Per person (XDG Base Directory specification): data in ``$XDG_DATA_HOME/grafos``, caches in ``$XDG_CACHE_HOME/grafos``,
sockets and state files of running programs in ``$XDG_STATE_HOME/grafos``. Per project: ``.grafos/`` in its folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PRIVATE_FOLDER = 0o700


def data_home() -> Path:
    """``$XDG_DATA_HOME/grafos``: what must not be lost."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def cache_home() -> Path:
    """``$XDG_CACHE_HOME/grafos``: what can be made again."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_home() -> Path:
    """``$XDG_STATE_HOME/grafos``: what running programs leave for each other, and logs."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def project_home(project: Path) -> Path:
    """The project's ``.grafos/``, made on first use, private, and ignored by git through a file of its own."""
    home = project / ".grafos"
    private_folder(home)
    ignore = home / ".gitignore"
    if not ignore.exists():
        write_private(ignore, b"*\n")
    return home


def private_folder(folder: Path) -> Path:
    """Makes ``folder`` and what is missing above it, readable by nobody else; their names are durable."""
    if not folder.is_dir():
        private_folder(folder.parent)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)  # `parents=True` would make those above readable by all
        sync_folder(folder.parent)
    return folder


def write_private(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600 so that a crash leaves the old file or the new one, whole, never a part.

    The data is on disk when this returns: the file is synced, and so is its folder.
    """
    with _draft(path, data) as draft:
        draft.replace(path)


def write_private_once(path: Path, data: bytes) -> bool:
    """As ``write_private``, but never over a file that exists; whether it was us who wrote it.

    Of several that come at once, in whatever process, one writes.
    """
    with _draft(path, data) as draft:
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return False
    return True


@contextlib.contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """The data, whole and synced, under a name of its own beside ``path``, for the block to give it its real one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def locked(path: Path, must_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Inside, no other process is inside with the same path: a folder, or a lock file, which is made when it is not
    there. ``must_wait`` is called when somebody else is. The lock dies with its process."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if must_wait is not None:
                must_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Makes names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _xdg(variable: str, default: str) -> Path:
    """The specification says that a relative path in the variable is to be ignored."""
    base = Path(os.environ.get(variable) or "")
    return (base if base.is_absolute() else Path.home() / default) / "grafos"
