"""Where a client finds the services of a scheduler, and who it is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Door(NamedTuple):
    """Where the scheduler is, and who asks. ``url`` is ``https://ADDRESS:PORT``."""

    url: str
    ca_pem: str
    certificate: Path
    key: Path
    api_token: str
