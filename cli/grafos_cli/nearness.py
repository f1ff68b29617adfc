"""The known word that was probably meant."""

from __future__ import annotations

LIKENESS_MIN = 0.6
"""What is less like the mistyped word is a guess, and a wrong guess is worse than none."""


def nearest(word: str, known: list[str], likeness_min: float = LIKENESS_MIN) -> str:
    """The known word that was probably meant, or nothing; ``likeness_min`` from 0 to 1."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1, cutoff=likeness_min)
    return matches[0] if matches else ""


def nearest_flag(flag: str, known: list[str]) -> str:
    """The known flag that was probably meant, or nothing. The dashes, which all have, count for nothing; of a single
    letter it is the one flag that begins with it."""
    names = {name.lstrip("-"): name for name in known if name.startswith("--")}
    word = flag.lstrip("-")
    if len(word) == 1:
        begin = [name for name in names if name.startswith(word)]
        return names[begin[0]] if len(begin) == 1 else ""
    match = nearest(word, list(names))
    return names[match] if match else ""
