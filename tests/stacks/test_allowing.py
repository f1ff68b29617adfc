"""Who may reach a cell, changed while it lives: on the in-memory cloud, died in at every call."""

from __future__ import annotations

import pytest
from crash_sweep import CELL, Fuse, dies, make, spec
from twin_ground import TwinGround

from grafos_connectors.contract import Kind
from grafos_core.errors import GrafosError
from grafos_stacks.allowing import allow

HOME, AWAY = "203.0.113.7/32", "198.51.100.9/32"


def open_to(ground: TwinGround) -> set[str]:
    """The addresses that the cloud itself lets in."""
    return {one.attributes["cidr"] for one in ground.found() if one.ref.kind is Kind.FIREWALL_RULE}


def test_the_new_address_gets_in_and_the_old_one_no_longer() -> None:
    ground = TwinGround()
    make(ground.hands())
    before = ground.live()
    assert open_to(ground) == {HOME}
    assert allow(ground.hands(), CELL, AWAY).spec.operator_cidr == AWAY
    assert open_to(ground) == {AWAY}
    allow(ground.hands(), CELL, AWAY)
    make(ground.hands(), spec(operator_cidr=AWAY))
    assert (open_to(ground), ground.live()) == ({AWAY}, before)


def test_died_in_at_every_call_the_cell_is_reachable_and_the_same_command_ends_it() -> None:
    for point in range(200):
        ground = TwinGround()
        make(ground.hands())
        died = dies(ground, lambda hands: allow(hands, CELL, AWAY), Fuse(point))
        assert open_to(ground) in ({HOME}, {HOME, AWAY}, {AWAY})
        allow(ground.hands(), CELL, AWAY)
        assert open_to(ground) == {AWAY}
        if not died:
            break
    else:
        pytest.fail("it never came to its end")
    assert point > 8


@pytest.mark.parametrize(
    ("cell_id", "cidr", "code"),
    [("nobody", AWAY, "cell_unknown"), (CELL, "0.0.0.0/0", "config_invalid"), (CELL, "here", "config_invalid")],
)
def test_what_cannot_be_allowed_is_refused_and_changes_nothing(cell_id: str, cidr: str, code: str) -> None:
    ground = TwinGround()
    make(ground.hands())
    with pytest.raises(GrafosError) as refused:
        allow(ground.hands(), cell_id, cidr)
    assert refused.value.code == code
    assert refused.value.next
    assert open_to(ground) == {HOME}
