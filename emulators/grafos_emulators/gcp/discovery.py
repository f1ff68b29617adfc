"""The discovery document of Compute Engine, as google-api-python-client ships it.

It is data in that package. It is read as a file, and the package itself is never imported: its client is not ours.
"""

from __future__ import annotations

import functools
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from grafos_core.errors import GrafosError

PACKAGE = "googleapiclient"
_COMPUTE = Path("discovery_cache/documents/compute.v1.json")


@functools.cache
def compute_document() -> dict[str, Any]:
    """The whole document, 5 MB, read once; ``unsupported`` when the package is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise GrafosError(
            "unsupported",
            "the emulated Compute Engine needs the discovery document in google-api-python-client",
            next="pip install google-api-python-client",
        )
    document: dict[str, Any] = json.loads((Path(spec.origin).parent / _COMPUTE).read_bytes())
    return document
