"""The proof that nothing is left: a signed inventory of an account, made by reading alone.

It needs no journal and no record, only the fabric's key: what is ours, its signed tags tell. A listing may miss for a
while what exists, so the one that counts is begun a whole listing lag after the last change that this home knows of.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import TAG_STACK, Found, State
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder
from grafos_core.receipts import Inventory, Signed, TornDown
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Life, ResourceRow
from grafos_stacks.names import ours_among
from grafos_stacks.records import kept


class Proof(NamedTuple):
    """The inventory, signed by the fabric, and what it says."""

    signed: Signed
    inventory: Inventory


def prove(hands: Hands, stack: str = "", regions: tuple[str, ...] = ()) -> Proof:
    """The signed inventory of one stack, or of the whole fabric, in all regions unless some are named.

    It is kept below the fabric's home, whatever it says. ``resources_left`` (9) when anything is there.
    """
    engine, account = Engine(hands), hands.identity().account
    begun = hands.clock.now()
    rows, at, tagged = _settled(hands, engine, stack, regions)
    ours = [found for found in ours_among(hands.fabric, tagged) if found.state is not State.GONE]
    mine = [found for found in ours if stack in ("", found.tags.get(TAG_STACK))]
    shown = {(found.ref.kind, found.ref.id) for found in mine}
    hidden = [row for row in rows if row.ref is not None and row.life is not Life.GONE]
    seen = [engine.observe(row.ref) for row in hidden if row.ref and (row.kind, row.ref.id) not in shown]
    left = [*mine, *(found for found in seen if found.state is not State.GONE)]
    inventory = Inventory(
        fabric=str(hands.fabric.id),
        provider=hands.connector.provider,
        account=account,
        stack=stack,
        regions=regions,
        kinds=tuple(sorted(kind.value for kind in hands.connector.traits.kinds)),
        resources=tuple(_line(found, at) for found in left),
        left=len(left),
        unproved=len([found for found in tagged if found.state is not State.GONE]) - len(ours),
        listed_at=(begun, at),
    )
    proof = Proof(hands.fabric.sign(inventory), inventory)
    _keep(hands, proof)
    if left:
        raise _left(inventory)
    return proof


def _settled(
    hands: Hands, engine: Engine, stack: str, regions: tuple[str, ...]
) -> tuple[list[ResourceRow], float, tuple[Found, ...]]:
    """The journal's rows, and a listing that was begun (at that time) a listing lag after the last change of them.
    Another command may change something while it is waited for: then it is waited for once more."""
    at, lag_s = 0.0, hands.connector.traits.listing_lag_s
    tagged: tuple[Found, ...] = ()
    while True:
        rows = _rows(hands, stack)
        believed_at = max([hands.journal.lost_at, *(row.changed_at for row in rows)]) + lag_s
        if at and at >= believed_at:
            return rows, at, tagged
        engine.wait_until(believed_at, "proof")
        at, tagged = engine.tagged(regions)


def proof_file(hands: Hands, inventory: Inventory) -> Path:
    """Where an inventory is kept."""
    name = f"{inventory.provider}-{inventory.stack or 'all'}.json"
    return private_folder(hands.fabric.home / "inventories") / name


def _keep(hands: Hands, proof: Proof) -> None:
    body = msgspec.json.format(msgspec.json.encode(proof.signed), indent=1) + b"\n"
    kept(proof_file(hands, proof.inventory), body)


def _rows(hands: Hands, stack: str) -> list[ResourceRow]:
    provider = hands.connector.provider
    stacks = [stack] if stack else [row.stack for row in hands.journal.stacks() if row.provider == provider]
    return [row for name in stacks for row in hands.journal.resources(name).values()]


def _line(found: Found, at: float) -> TornDown:
    moment = dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds")
    ref = found.ref
    return TornDown(ref.kind.value, ref.id, ref.region, gone=False, proof=f"{found.state.value} at {moment}")


def _left(inventory: Inventory) -> GrafosError:
    lines = [f"{torn.kind} {torn.id} in {torn.region}" for torn in inventory.resources]
    return GrafosError(
        "resources_left",
        f"{inventory.left} resources are there: {'; '.join(lines)}",
        where=f"{inventory.provider} {inventory.account}",
        next="see what they are: grafos cloud sweep; those of a cell go with: grafos cloud teardown",
        context={"left": [msgspec.to_builtins(torn) for torn in inventory.resources]},
    )
