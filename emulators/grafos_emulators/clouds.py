"""Which clouds can be emulated, and how their machines boot. Light: nothing of theirs is imported."""

from __future__ import annotations

CLOUDS = ("aws", "azure", "gcp")
PROCESSES, QEMU = BOOTS = ("processes", "qemu")
"""What a machine comes to that was made from a published image: local processes, or a virtual machine that boots it."""


def clouds_of(text: str) -> tuple[str, ...]:
    """The clouds that ``text`` lists (``aws,gcp``), each once and in order; ValueError for what is none."""
    named = {name.strip() for name in text.split(",")}
    unknown = sorted(named - set(CLOUDS))
    if unknown:
        raise ValueError(f"there is no emulated {unknown[0][:60]!r}: {', '.join(CLOUDS)}")
    return tuple(cloud for cloud in CLOUDS if cloud in named)
