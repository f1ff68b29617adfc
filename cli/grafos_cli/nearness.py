"""The known word that was probably meant."""

from __future__ import annotations


def nearest(word: str, known: list[str], likeness_min: float = 0.5) -> str:
    """The known word that was probably meant, or nothing; ``likeness_min`` from 0 to 1."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1, cutoff=likeness_min)
    return matches[0] if matches else ""
