"""The grafos command; the one place that wires the rooms together."""

from __future__ import annotations


def version() -> str:
    """The version of the installed command."""
    from importlib.metadata import version as installed

    return installed("grafos-cli")
