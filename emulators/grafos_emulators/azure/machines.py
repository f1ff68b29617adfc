"""Virtual machines: made with a disk of their own, ended with what they were told to take along."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from grafos_emulators.azure import catalogue, machine_checks, shapes
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.disks import make_os_disk
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.faulted import operation_error
from grafos_emulators.azure.interfaces import address_of
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.machine_life import MachineLife, allocation_failed
from grafos_emulators.azure.machine_view import boot_diagnostics_on, instance_view, model_view
from grafos_emulators.azure.mishaps import Mishaps
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.quotas import check_cores, is_spot, size_of
from grafos_emulators.azure.references import sub_id
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import VIRTUAL_MACHINE
from grafos_emulators.faults import Fault

SERIAL_PREFIX = "/azure/bootdiagnostics/"
_POWER_ACTIONS = {"deallocate", "poweroff", "start"}
_UNDER_WAY = {"Creating", "Updating", "Deleting"}  # states in which a machine takes no other order


class Machines(Kind):
    type: ClassVar[str] = VIRTUAL_MACHINE
    model: ClassVar[str] = "compute.VirtualMachine"

    def __init__(self, account: AzureAccount) -> None:
        super().__init__(account)
        self.life = MachineLife(account)
        self.remove: Callable[[Resource], None] = lambda _: None  # how a whole resource is removed; the router says it
        self.mishaps = Mishaps(account, self.life, lambda machine: self.remove(machine))  # noqa: PLW0108  said later

    def accept(self, ask: Ask) -> dict[str, Any]:
        machine_checks.check_heeded(ask.body)
        if ask.old is not None:
            return self._accept_change(ask.old, ask.body)
        properties = dict(ask.body.get("properties") or {})
        zones = list(ask.body.get("zones") or [])
        catalogue.check_zones(zones, ask.location, ask.call.place.name)
        size = machine_checks.check_size_name(self.account, properties, ask.location, zones)
        machine_checks.check_storage(properties)
        image = machine_checks.check_image(self.account, properties, size, ask.call.place.id, ask.location)
        machine_checks.check_os(properties)
        machine_checks.check_priority(properties, size)
        machine_checks.check_interfaces(self.account, ask.call, properties, ask.location)
        machine_checks.check_disk_is_new(self.account, ask.call, properties)
        spot = str(properties.get("priority", "Regular")).lower() in {"spot", "low"}
        check_cores(self.account, ask.location, size, spot=spot)
        properties["storageProfile"] = {**properties["storageProfile"], "imageReference": image, "dataDisks": []}
        disk = {"caching": "ReadWrite", "osType": "Linux", "deleteOption": "Detach"}
        properties["storageProfile"]["osDisk"] = {**disk, **properties["storageProfile"]["osDisk"]}
        if spot:
            properties.setdefault("evictionPolicy", "Deallocate")
            properties.setdefault("billingProfile", {"maxPrice": -1})
        return {**ask.body, "properties": properties}

    def _accept_change(self, old: Resource, body: dict[str, Any]) -> dict[str, Any]:
        """A PUT of what exists: only what may change is taken over, and nothing that is not named is lost."""
        machine_checks.check_unchanged(old, body)
        machine_checks.check_not_emulated_changes(old, body)
        properties = {**old.properties, **(body.get("properties") or {})}
        kept = ("osProfile", "storageProfile", "hardwareProfile", "networkProfile")
        properties |= {name: old.properties[name] for name in kept if name in old.properties}
        return {**old.body, **body, "properties": properties}

    def begin_make(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:
        resource.runtime |= {"vm_id": str(uuid.uuid4()), "allocated": False, "power": ""}
        make_os_disk(self, resource)
        self._allocate(resource, operation, fault)

    def begin_change(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:
        """A machine that never got hardware is tried again by a PUT."""
        if resource.runtime.get("launched"):
            super().begin_change(resource, operation, fault)
        else:
            self._allocate(resource, operation, fault)

    def _allocate(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:
        zones, size = list(resource.body.get("zones") or []), size_of(resource)
        if not self.account.has_room(resource.location, zones, size.name):
            self.account.operations.after(
                operation, self.account.quick_s, lambda: self._fail(resource, allocation_failed(zones, size))
            )
            return

        def up() -> None:
            if operation.is_done:
                return  # a delete overtook it
            self.settle(resource, operation)
            self.account.operations.succeed(operation)
            self.mishaps.befall(resource, fault)

        address = address_of(self, self._interfaces(resource)[0])
        self.life.launch(resource, address, up, lambda: self.account.operations.cancel(operation))

    def begin_failed_make(self, resource: Resource) -> None:
        """A machine that gets no hardware: it is there all the same, and so is its disk."""
        resource.runtime |= {"vm_id": str(uuid.uuid4()), "allocated": False, "power": ""}
        make_os_disk(self, resource)

    def _fail(self, resource: Resource, error: ArmError) -> None:
        resource.state, resource.operation = "Failed", ""
        resource.runtime["error"] = error
        raise error

    def _interfaces(self, resource: Resource) -> list[Resource]:
        named = resource.properties["networkProfile"]["networkInterfaces"]
        return [nic for each in named if (nic := self.account.store.get(sub_id(each))) is not None]

    def begin_remove(self, resource: Resource, done: Callable[[], None]) -> None:
        self.mishaps.forget(resource)
        self.life.end(resource, done)

    def removed(self, resource: Resource) -> None:
        """What the machine was told to take along goes too; the rest is let go of, and stays."""
        os_disk = resource.properties["storageProfile"]["osDisk"]
        disk = self.account.store.get((os_disk.get("managedDisk") or {}).get("id", ""))
        if disk is not None:
            disk.runtime.pop("machine", None)
            if str(os_disk.get("deleteOption")).lower() == "delete":
                self.account.remove(disk)
        for each in resource.properties["networkProfile"]["networkInterfaces"]:
            option = (each.get("properties") or {}).get("deleteOption", "Detach")
            nic = self.account.store.get(sub_id(each))
            if nic is not None and str(option).lower() == "delete":
                self._remove_interface(nic)

    def _remove_interface(self, nic: Resource) -> None:
        addresses = [
            sub_id(public)
            for each in nic.properties["ipConfigurations"]
            if (public := each["properties"].get("publicIPAddress"))
            and str((public.get("properties") or {}).get("deleteOption")).lower() == "delete"
        ]
        self.remove(nic)
        for address_id in addresses:
            address = self.account.store.get(address_id)
            if address is not None:
                self.remove(address)

    def view(self, resource: Resource) -> dict[str, Any]:
        return model_view(resource)

    def expanded(self, resource: Resource) -> dict[str, Any]:
        shown = model_view(resource)
        shown["properties"]["instanceView"] = self._instance_view(resource)
        return shown

    def status(self, resource: Resource) -> dict[str, Any]:
        """How it stands and not what it is: neither tags nor model, which a caller may therefore not count on."""
        told = {
            "id": resource.id,
            "name": resource.name,
            "type": resource.type,
            "location": resource.location,
            "properties": {"instanceView": self._instance_view(resource)},
        }
        shapes.check_answer(self.model, told)
        return told

    def _instance_view(self, resource: Resource) -> dict[str, Any]:
        return instance_view(resource, resource.properties["storageProfile"]["osDisk"].get("name", ""))

    def patch(self, resource: Resource, body: dict[str, Any]) -> None:
        shapes.check_request("compute.VirtualMachineUpdate", body)
        machine_checks.check_unchanged(resource, body)
        for name in set(body) - {"tags"}:
            raise ArmError(501, "NotEmulated", f"the emulated Azure changes only the tags of a machine, not its {name}")

    def action(self, resource: Resource, call: ArmCall, fault: Fault | None) -> Operation | dict[str, Any] | None:
        what = call.place.tail
        if call.method == "GET" and what == "instanceview":
            view = self._instance_view(resource)
            shapes.check_answer("compute.VirtualMachineInstanceView", view)
            return view
        if call.method != "POST":
            return None
        if what == "retrievebootdiagnosticsdata":
            return self._boot_diagnostics(resource)
        return self._power_action(resource, what, call, fault) if what in _POWER_ACTIONS else None

    def _power_action(self, resource: Resource, what: str, call: ArmCall, fault: Fault | None) -> Operation:
        self.account.check_lock(resource.id, deleting=False)
        if resource.state in _UNDER_WAY:
            raise ArmError(
                409,
                "Conflict",
                f"The request failed due to conflict with a concurrent request: the VM '{resource.name}' is "
                f"{resource.state}.",
            )
        if not resource.runtime.get("launched") and what != "deallocate":
            raise ArmError(409, "OperationNotAllowed", f"The VM '{resource.name}' was never allocated.")
        if what == "start":
            self.life.check_startable(resource)
        operations = self.account.operations
        version = call.query.get("api-version", "")
        operation = operations.begin("Microsoft.Compute", resource.location, api_version=version)
        error = operation_error(fault, resource)
        if what == "start" and error is None:
            error = self._no_room_to_start(resource)
        if error is not None:
            operations.after(operation, self.account.quick_s, lambda: self._raise(error))
            return operation
        done, overtaken = partial(operations.succeed, operation), partial(operations.cancel, operation)
        if what == "start":
            self.life.start(resource, done, overtaken)
        else:
            self.life.stop(resource, done, overtaken, deallocate=what == "deallocate")
        return operation

    def _no_room_to_start(self, resource: Resource) -> ArmError | None:
        if resource.runtime["allocated"]:
            return None  # it kept its hardware
        size, zones = size_of(resource), list(resource.body.get("zones") or [])
        check_cores(self.account, resource.location, size, spot=is_spot(resource))
        has_room = self.account.has_room(resource.location, zones, size.name)
        return None if has_room else allocation_failed(zones, size)

    def _raise(self, error: ArmError) -> None:
        raise error

    def _boot_diagnostics(self, resource: Resource) -> dict[str, Any]:
        if not boot_diagnostics_on(resource):
            raise ArmError(409, "OperationNotAllowed", f"Boot diagnostics is not enabled for VM '{resource.name}'.")
        ticket = resource.runtime.setdefault("ticket", secrets.token_urlsafe(24))
        base = f"{self.account.endpoint}{SERIAL_PREFIX}{resource.runtime['vm_id']}"
        return {
            "consoleScreenshotBlobUri": f"{base}/screenshot.bmp?sig={ticket}",
            "serialConsoleLogBlobUri": f"{base}/serialconsole.log?sig={ticket}",
        }

    def deallocate(self, resource: Resource) -> None:
        """What the shutdown schedule does; nothing to a machine that is just changed, for ARM takes one at a time."""
        if resource.state not in _UNDER_WAY:
            self.life.stop(resource, deallocate=True)

    def shown_state(self, resource: Resource) -> str:
        return str(resource.runtime.get("power") or "") or resource.state

    def bills(self, resource: Resource) -> bool:
        return bool(resource.runtime.get("allocated"))
