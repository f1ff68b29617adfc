"""Where a request points: ARM's paths, read without regard to case, as ARM reads them.

    /subscriptions/S[/resourceGroups/G][/providers/NAMESPACE/TYPE/NAME[/TYPE/NAME]…]

A path below a provider alternates between types and names; one that ends with a type is a list or an action.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True)
class Place:
    """One path. ``rest`` are the words after the namespace, ``root`` those before it that are neither of the two.

    Words keep the case in which they were sent; compare them lower-cased.
    """

    subscription: str = ""
    group: str = ""
    namespace: str = ""
    rest: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    scope: str = ""

    @property
    def type(self) -> str:
        """``Microsoft.Network/virtualNetworks/subnets``, in the case that was sent."""
        return "/".join((self.namespace, *self.rest[::2]))

    @property
    def names(self) -> tuple[str, ...]:
        return self.rest[1::2]

    @property
    def name(self) -> str:
        return self.names[-1] if self.names else ""

    @property
    def is_instance(self) -> bool:
        """Whether the path ends with a name."""
        return len(self.rest) >= 2 and len(self.rest) % 2 == 0

    @property
    def tail(self) -> str:
        """The last word of a path that ends with a type: a list's or an action's, lower-cased."""
        return self.rest[-1].lower() if len(self.rest) % 2 else ""

    @property
    def parent(self) -> Place:
        """The place without its last type and name, or without its last word."""
        cut = 2 if self.is_instance else 1
        return Place(self.subscription, self.group, self.namespace, self.rest[:-cut], self.root, self.scope)

    @property
    def id(self) -> str:
        """The ARM id, with the words as they were sent."""
        group = f"/resourceGroups/{self.group}" if self.group else ""
        below = f"/providers/{'/'.join((self.namespace, *self.rest))}" if self.namespace else ""
        return f"/subscriptions/{self.subscription}{group}{below}"


def read(path: str) -> Place:
    """The place of a path. What follows the last ``providers`` counts: they stand below other resources too."""
    words = [unquote(word) for word in path.split("/") if word]
    low = [word.lower() for word in words]
    subscription = words[1] if low[:1] == ["subscriptions"] and len(words) > 1 else ""
    group = words[3] if low[2:3] == ["resourcegroups"] and len(words) > 3 else ""
    begin = len(low) - 1 - low[::-1].index("providers") if "providers" in low else len(low)
    root = tuple(words[(4 if group else 2 if subscription else 0) : begin])
    below = words[begin + 1 :]
    return Place(
        subscription,
        group,
        below[0] if below else "",
        tuple(below[1:]),
        root,
        scope="/" + "/".join(words[:begin]),
    )


def key(resource_id: str) -> str:
    """What makes two spellings of an id the same."""
    return resource_id.strip("/").lower()
