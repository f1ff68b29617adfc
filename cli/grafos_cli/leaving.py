"""The end of a process of ours: at once, when all is said and closed."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from grafos_core.errors import FAILURE


def leave(code: int) -> NoReturn:
    """Ends this process with the exit code; ``FAILURE`` if what was said last could not be written any more.

    Whoever opened a journal, a ledger or a lock has closed it by now. What is left is Python's own end, which takes an
    SDK's thousands of classes apart one by one: for Google Cloud a sixth of all the processor time of a command.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # whoever started us may have closed it
                stream.flush()
        except (OSError, ValueError):  # a reader that has left, a full disk, or a stream that was closed
            code = code or FAILURE
    os._exit(code)
