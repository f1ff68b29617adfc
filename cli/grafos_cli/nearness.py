"""The known word that was probably meant."""

from __future__ import annotations


def nearest(word: str, known: list[str]) -> str:
    """The known word that was probably meant, or nothing."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return matches[0] if matches else ""
