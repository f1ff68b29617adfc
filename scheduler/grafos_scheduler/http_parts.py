"""The parts of uvicorn that the scheduler uses, without uvicorn's command line.

The package imports its command line, and the toolkit behind that, as soon as it is touched. Here nobody calls it, and
it would cost a fifth of the CPU time of the scheduler's start; so an empty module stands in its place meanwhile.
"""

from __future__ import annotations

import sys
from types import ModuleType

_COMMAND_LINE = "uvicorn.main"

_stand_in = ModuleType(_COMMAND_LINE)
for _name in ("Server", "main", "run"):
    setattr(_stand_in, _name, None)
_is_ours = sys.modules.setdefault(_COMMAND_LINE, _stand_in) is _stand_in

from uvicorn.config import Config  # noqa: E402  # after the stand-in is there
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle  # noqa: E402  # as above
from uvicorn.server import ServerState  # noqa: E402  # as above

if _is_ours:
    del sys.modules[_COMMAND_LINE]

__all__ = ["Config", "HttpToolsProtocol", "RequestResponseCycle", "ServerState"]
