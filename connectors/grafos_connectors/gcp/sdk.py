"""The parts of the SDK's Compute Engine that are asked for, each imported when it is.

The package's own start imports the clients of all of Compute Engine's hundred resources: 3.7 s of processor, where one
client and the messages are 1.2 s. Hence a package stands in for it that knows its folder alone, so that a client is
imported from the place that Google documents for it (``compute_v1.services.instances``). Whoever else in the process
asks the package for any name gets the whole of it then, as ever.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

PACKAGE = "google.cloud.compute_v1"

_loading = threading.RLock()


@functools.cache
def client_class(resource: str) -> Any:
    """The SDK's client of a resource: ``instances``, ``global_operations``."""
    name = "".join(word.capitalize() for word in resource.split("_"))
    return getattr(_part(f"services.{resource}"), f"{name}Client")


def message_class(name: str) -> Any:
    """A message of Compute Engine's: ``Instance``."""
    return getattr(_part("types"), name)


def _part(name: str) -> ModuleType:
    with _loading:
        if PACKAGE not in sys.modules:
            sys.modules[PACKAGE] = _standing_in()
    return importlib.import_module(f"{PACKAGE}.{name}")


def _standing_in() -> ModuleType:
    """The package with its own start still to come: it comes with the first name that it lacks."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    package = importlib.util.module_from_spec(spec)
    loader = spec.loader

    def missing(name: str) -> Any:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(f"{PACKAGE}.{name}")  # the clients name the package's modules so
        with _loading:
            if package.__dict__.pop("__getattr__", None):
                loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = missing
    return package
