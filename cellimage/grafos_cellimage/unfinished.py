"""Folders for what is not finished yet. What a bake that was killed left in one is cleared away by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grafos_core.paths import locked


@contextmanager
def unfinished(folder: Path, prefix: str) -> Iterator[Path]:
    """A folder in ``folder`` that is gone after the block; those of the same prefix that belong to nobody go too."""
    with contextlib.ExitStack() as stack:
        with locked(folder):
            for left in folder.glob(f"{prefix}*"):
                if _is_nobodys(left):
                    shutil.rmtree(left, ignore_errors=True)
            # What a tool of the bake still holds open as it ends must not hide why the bake ended.
            made = tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True)
            scratch = Path(stack.enter_context(made))
            stack.enter_context(locked(scratch))
        yield scratch


def _is_nobodys(folder: Path) -> bool:
    """A lock dies with its process."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # its bake has just ended
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
