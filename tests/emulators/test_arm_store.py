"""What is in the emulated subscription is found by its id, and by the ids that it names."""

from __future__ import annotations

from typing import Any

from grafos_emulators.azure.store import Resource, Store

GROUP = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network"
NIC, GUARD, OTHER = f"{GROUP}/networkInterfaces/n", f"{GROUP}/networkSecurityGroups/a", f"{GROUP}/subnets/b"


def resource(resource_id: str, *named: str) -> Resource:
    kind = f"Microsoft.Network/{resource_id.split('/')[-2]}"
    return Resource(resource_id, kind, resource_id.rpartition("/")[2], "eastus", {}, body(*named), 0.0, 0.0, 0.0)


def body(*named: str) -> dict[str, Any]:
    return {"properties": {"configurations": [{"properties": {"used": {"id": each}}} for each in named]}}


def users(store: Store, resource_id: str, *types: str) -> list[str]:
    return [found.id for found in store.who_names(resource_id, *types)]


def test_who_names_an_id_is_found_however_it_is_spelled_and_by_type() -> None:
    store = Store()
    store.put(resource(NIC, GUARD, OTHER))
    assert users(store, GUARD.upper() + "/") == [NIC]
    assert users(store, GUARD, "Microsoft.Network/networkInterfaces") == [NIC]
    assert users(store, GUARD, "Microsoft.Network/subnets") == []


def test_whoever_got_another_body_names_what_that_one_names() -> None:
    store = Store()
    nic = resource(NIC, GUARD)
    store.put(nic)
    store.give(nic, body(OTHER))
    assert (users(store, GUARD), users(store, OTHER)) == ([], [NIC])
    store.give(nic, body(GUARD))
    assert (users(store, GUARD), users(store, OTHER)) == ([NIC], [])


def test_what_was_removed_names_nothing_and_may_come_again() -> None:
    store = Store()
    nic = resource(NIC, GUARD)
    store.put(nic)
    store.remove(nic)
    assert users(store, GUARD) == []
    store.put(resource(NIC, GUARD))
    assert users(store, GUARD) == [NIC]


class Sealed(dict[str, Any]):
    """A body that must not be read any more once everything is there."""

    reads = 0

    def items(self) -> Any:
        Sealed.reads += 1
        return super().items()


def test_the_many_that_name_something_else_are_not_read() -> None:
    store = Store()
    for number in range(100):
        foreign = resource(f"{GROUP}/networkInterfaces/foreign-{number}")
        store.put(foreign)
        store.give(foreign, Sealed(body(OTHER)))
    store.put(resource(NIC, GUARD))
    before = Sealed.reads
    assert users(store, GUARD) == [NIC]
    assert Sealed.reads == before
