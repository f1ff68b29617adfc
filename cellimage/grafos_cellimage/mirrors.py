"""Where Debian's packages are fetched from: as somebody says, else where this machine gets its own from.

No host stands here. A mirror is trusted with nothing: a lock's packages are known by their SHA-256, a new lock is made
from lists that Debian signed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping

from grafos_cellimage import tools
from grafos_core.errors import GrafosError

MAIN, SECURITY = "debian", "debian-security"
LABELS = {"Debian": MAIN, "Debian-Security": SECURITY}


def mirrors(main: str = "", security: str = "") -> Mapping[str, str]:
    """Base URLs by the names that a lock uses. A mirror of the main archive alone is taken to have the other beside it.

    ``config_invalid`` if none is named and this machine has none.
    """
    named = {MAIN: main, SECURITY: security or (f"{main.rstrip('/')}-security" if main else "")}
    own = {} if all(named.values()) else own_mirrors()
    found = {name: url or own.get(name, "") for name, url in named.items()}
    if not all(found.values()):
        raise GrafosError(
            "config_invalid",
            "no mirror of Debian is known here",
            why="none was named, and this machine gets no packages from one",
            next="name one: --mirror URL, where URL ends in /debian",
        )
    for url in found.values():
        if not re.fullmatch(r"(https?|file)://[^\s\[\]'\"]+", url):
            raise GrafosError("config_invalid", f"{url[:200]!r} is no address of a mirror", where="--mirror")
    return found


def own_mirrors() -> dict[str, str]:
    """Where this machine's apt gets Debian's packages from; nothing on a machine without it."""
    if shutil.which("apt-get") is None:
        return {}
    told = tools.run(("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"))
    found = (line.split(" ") for line in told.splitlines() if line.count(" ") == 1)
    return {LABELS[label]: url for label, url in found if label in LABELS}
