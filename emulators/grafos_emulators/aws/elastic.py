"""Elastic addresses of the emulated EC2: numbers on loopback that outlive the machines that they are at.

moto would give numbers that exist somewhere, take an address from its machine when it is released, and put one at a
machine that is not there yet. What comes in at an address is carried to its machine, at the ports that the machine's
security groups open by the time when it gets the address; ranges of more than sixteen ports are left out.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.responses import EC2Response
from moto.ec2.utils import random_eip_association_id

from grafos_emulators.aws.account import Account
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated

PORTS_MAX = 16
PIECE_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
GOODBYE_S = 1.0
"""What a caller gets to say at whose machine nobody listens; without it the connection would break in the middle."""
TAKES_ADDRESSES = frozenset({"running", "stopping", "stopped"})


class Relay:
    """Carries connections from an address to its machine until ``close``; those under way end with either side."""

    def __init__(self, address: str, target: str, ports: Iterable[int]) -> None:
        self._doors = [socket.create_server((address, port)) for port in sorted(ports)]
        for door in self._doors:
            threading.Thread(target=_let_in, args=(door, target), daemon=True).start()

    def close(self) -> None:
        for door in self._doors:
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)  # wakes who waits in it
            door.close()


def _let_in(door: socket.socket, target: str) -> None:
    port = door.getsockname()[1]
    while True:
        try:
            caller, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(caller, (target, port)), daemon=True).start()


def _carry(caller: socket.socket, target: tuple[str, int]) -> None:
    with caller:
        try:
            machine = socket.create_connection(target, CONNECT_TIMEOUT_S)
        except OSError:
            _turn_away(caller)
            return
        with machine:
            machine.settimeout(None)
            back = threading.Thread(target=_pump, args=(machine, caller), daemon=True)
            back.start()
            _pump(caller, machine)
            back.join()


def _turn_away(caller: socket.socket) -> None:
    with contextlib.suppress(OSError):
        caller.shutdown(socket.SHUT_WR)
        caller.settimeout(GOODBYE_S)
        while caller.recv(PIECE_BYTES):
            pass


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class ElasticBackend(EC2Backend):
    """A region's addresses."""

    account: Account

    def __init__(self, region_name: str, account_id: str) -> None:
        self._relays: dict[str, Relay] = {}
        super().__init__(region_name, account_id)

    def allocate_address(self, domain: str, address: str | None = None, tags: dict[str, str] | None = None) -> Any:
        if address or domain == "standard":
            raise not_emulated("an elastic address of one's own choice")
        return super().allocate_address("vpc", address=self.account.network.take(), tags=tags)

    def put_address(self, allocation_id: str, instance: Any, *, reassociate: bool) -> Any:
        """Puts it at the machine; the one that the machine had goes."""
        address: Any = self.address_by_allocation([allocation_id])[0]
        if address.instance is instance:
            return address
        state = instance.instance_state.name
        if state not in TAKES_ADDRESSES:
            raise AwsRefusalError(
                "InvalidInstanceID", f"The {state} instance '{instance.id}' is not in a valid state for this operation"
            )
        if address.instance is not None and not reassociate:
            raise AwsRefusalError(
                "Resource.AlreadyAssociated",
                f"resource {allocation_id} is already associated with associate-id {address.association_id}",
            )
        for other in self.addresses:
            if other is address or other.instance is instance:
                self._take_away(other)
        address.instance, address.eni = instance, instance.nics[0]
        address.association_id = random_eip_association_id()
        address.eni.public_ip = address.public_ip
        self._relays[allocation_id] = Relay(address.public_ip, instance.private_ip_address, _open_ports(instance))
        return address

    def disassociate_address(self, address: str | None = None, association_id: str | None = None) -> None:
        found = self.address_by_ip([address]) if address else self.address_by_association([association_id or ""])
        self._take_away(found[0])

    def release_address(self, address: str | None = None, allocation_id: str | None = None) -> None:
        found: Any = self.address_by_ip([address]) if address else self.address_by_allocation([allocation_id or ""])
        if found[0].instance is not None:
            raise AwsRefusalError("InvalidIPAddress.InUse", f"Address {found[0].public_ip} is in use.")
        super().release_address(address, allocation_id)
        self.account.network.give_back(found[0].public_ip)

    def leave_addresses(self, instance: Any) -> None:
        """A machine that is gone has none any more."""
        for address in self.addresses:
            if address.instance is instance:
                self._take_away(address)

    def close_relays(self) -> None:
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()

    def _take_away(self, address: Any) -> None:
        if address.instance is None:
            return
        if address.eni is not None:
            address.eni.public_ip = None
        address.instance = address.eni = address.association_id = None
        self._relays.pop(str(address.allocation_id)).close()


def _open_ports(instance: Any) -> set[int]:
    rules = [rule for group in instance.nics[0].group_set for rule in group.ingress_rules]
    ranges = [(int(rule.from_port), int(rule.to_port)) for rule in rules if rule.ip_protocol == "tcp"]
    return {port for first, last in ranges if last - first < PORTS_MAX for port in range(first, last + 1)}


class ElasticActions(EC2Response):
    """moto lets nobody take an address from another machine unless it is asked for; EC2 does unless it is forbidden."""

    def associate_address(self) -> ActionResult:
        self.error_on_dryrun()
        if not (self._get_param("InstanceId") and self._get_param("AllocationId")):
            raise not_emulated("an elastic address that is not put at an instance, by its allocation id")
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        reassociate = self._get_bool_param("AllowReassociation", if_none=True)
        backend: Any = self.ec2_backend
        address = backend.put_address(self._get_param("AllocationId"), instance, reassociate=reassociate)
        return ActionResult({"AssociationId": address.association_id})
