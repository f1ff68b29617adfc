"""Runs a program that ends with whoever started it, however that ends. Run as a file, by any Python and without grafos:

    tied.py PARENT PROGRAM ARGUMENTS

``PARENT`` is the process that starts this. It is asked for once more when the kernel has been told: before that its
end would not have been heard.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: str, *words: str) -> NoReturn:
    """Becomes the program; one line and exit code 1 if that cannot be."""
    try:
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != int(parent):
            raise OSError("whoever started this is gone")
        os.execvp(words[0], words)  # noqa: S606  to become the program is what this is for
    except OSError as error:
        sys.exit(f"{words[0]} cannot be run: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
