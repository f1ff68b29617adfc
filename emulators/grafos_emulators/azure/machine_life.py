"""A virtual machine's life: hardware taken, booted, stopped, deallocated, evicted, ended, and what goes with it.

Stopped is not deallocated. A machine that switched itself off, or was powered off, keeps its hardware and is billed
for it; only one that is deallocated is not, and its disk and its public address bill on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grafos_emulators import imds
from grafos_emulators.azure import catalogue
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.machine_checks import custom_data, is_own_image, user_data
from grafos_emulators.azure.store import Resource
from grafos_emulators.boot.driver import AZURE, VHD, MachineDisk, MachineSetup
from grafos_emulators.lifecycle import Happening, MachineState
from grafos_emulators.world import Machine

Then = Callable[[], None]

# By what an operation waits for: the states from which that comes no more, because another order was faster.
_OVERTAKEN_IN = {
    MachineState.RUNNING: {MachineState.STOPPING, MachineState.STOPPED, MachineState.ENDING, MachineState.GONE},
    MachineState.STOPPED: {MachineState.ENDING, MachineState.GONE},
    MachineState.GONE: set[MachineState](),
}


def _nothing() -> None:
    """Nobody waits for it."""


@dataclass(frozen=True)
class _Waiting:
    """What is done when the machine is in ``state``, or when it is clear that it will not be."""

    state: MachineState
    act: Then
    overtaken: Then


class MachineLife:
    """Moves the world's machines for their ARM resources. Every method is called with the world's lock held."""

    def __init__(self, account: AzureAccount) -> None:
        self._account = account
        self._world = account.world
        self._waiting: dict[str, list[_Waiting]] = {}

    def launch(self, machine: Resource, address: str, up: Then, overtaken: Then) -> None:
        """Takes hardware and boots; ``up`` is called when it runs, ``overtaken`` if it is ended before."""
        runtime = machine.runtime
        vm_id: str = runtime["vm_id"]
        own_image = is_own_image(machine.properties)
        setup = MachineSetup(
            machine_id=vm_id,
            address=address,
            user_data=custom_data(machine.properties),
            runs_user_data=not own_image,  # every image of the catalogue is our own stock image
            runs_image=AZURE if own_image else "",
            environment={imds.VARIABLE: imds.endpoint_of(vm_id, self._account.endpoint)},
            disk=self._disk_of(machine) if own_image else None,
        )
        runtime |= {"allocated": True, "power": "starting", "intent": "stop", "launched": True, "address": address}
        self._account.launched[vm_id] = machine
        self._when(machine, MachineState.RUNNING, up, overtaken)
        self._world.launch(
            Machine(setup=setup, ends_when_off=lambda: False, changed=lambda now: self._changed(machine, now))
        )

    def _disk_of(self, machine: Resource) -> MachineDisk | None:
        """The disk of the gallery's image that it was made from."""
        image = self._account.store.get(machine.properties["storageProfile"]["imageReference"]["id"])
        if image is None or "pages" not in image.runtime:
            return None
        family = self._account.store.get(image.place.parent.id)
        arch = "arm64" if family and family.properties.get("architecture") == "Arm64" else "amd64"
        return MachineDisk(image.runtime["pages"], VHD, AZURE, arch, user_data(machine.properties))

    def stop(
        self,
        machine: Resource,
        done: Then = _nothing,
        overtaken: Then = _nothing,
        *,
        deallocate: bool,
        reason: str = "user",
    ) -> None:
        """Powers off, or deallocates; ``done`` is called when it is so, ``overtaken`` if the machine ends before.

        Harmless when it is so already.
        """
        runtime = machine.runtime
        power = runtime.get("power", "")
        if power in {"starting", "running"}:
            runtime["intent"] = "deallocate" if deallocate else "stop"
            self._when(machine, MachineState.STOPPED, done, overtaken)
            self._world.ask(runtime["vm_id"], Happening.STOP, reason=reason)
        elif power == "stopping":
            runtime["intent"] = "deallocate" if deallocate else runtime["intent"]
            runtime["power"] = "deallocating" if deallocate else power
            self._when(machine, MachineState.STOPPED, done, overtaken)
        elif power == "deallocating":
            self._when(machine, MachineState.STOPPED, done, overtaken)
        else:
            if power == "stopped" and deallocate:
                runtime["power"] = "deallocating"
            self._after(self._world.times.stopping_s, lambda: self._settled(machine, done, deallocate=deallocate))

    def _settled(self, machine: Resource, done: Then, *, deallocate: bool) -> None:
        if deallocate and machine.runtime.get("power") == "deallocating":
            machine.runtime |= {"power": "deallocated", "allocated": False}
        done()

    def check_startable(self, machine: Resource) -> None:
        """Refuses to start what is on its way down."""
        power = self.power_of(machine)
        if power in {"stopping", "deallocating"}:
            raise ArmError(409, "OperationNotAllowed", f"The VM '{machine.name}' cannot be started: it is {power}.")

    def start(self, machine: Resource, up: Then, overtaken: Then) -> None:
        """Boots a machine that is stopped or deallocated; one that runs is up already."""
        power = self.power_of(machine)
        if power == "running":
            self._after(0.0, up)
            return
        machine.runtime |= {"allocated": True, "intent": "stop"}
        self._when(machine, MachineState.RUNNING, up, overtaken)
        if power != "starting":
            self._world.ask(machine.runtime["vm_id"], Happening.START, reason="user")

    def end(self, machine: Resource, gone: Then) -> None:
        """Ends the machine for ever; ``gone`` is called when none of its processes is left."""
        world_machine = self._world.machine(machine.runtime["vm_id"])
        if world_machine is None:
            self._after(self._account.quick_s, gone)
            return
        self._when(machine, MachineState.GONE, gone)
        self._world.ask(machine.runtime["vm_id"], Happening.END, reason="user")

    def power_of(self, machine: Resource) -> str:
        return str(machine.runtime.get("power", ""))

    def _changed(self, machine: Resource, now: Machine) -> None:
        runtime, state = machine.runtime, now.state
        deallocates = runtime["intent"] == "deallocate"
        runtime["power"] = {
            MachineState.STARTING: "starting",
            MachineState.RUNNING: "running",
            MachineState.STOPPING: "deallocating" if deallocates else "stopping",
            MachineState.STOPPED: "deallocated" if deallocates else "stopped",
        }.get(state, "stopping")
        if state is MachineState.GONE or runtime["power"] == "deallocated":
            runtime["allocated"] = False
        self._tell(machine, state)
        if state is MachineState.GONE:
            del self._account.launched[now.machine_id]
            self._after(0.0, lambda: self._world.forget(now.machine_id))

    def _when(self, machine: Resource, state: MachineState, act: Then, overtaken: Then = _nothing) -> None:
        self._waiting.setdefault(machine.runtime["vm_id"], []).append(_Waiting(state, act, overtaken))

    def _tell(self, machine: Resource, state: MachineState) -> None:
        """Lets go on whoever waits for this state, or waits for one that comes no more; all others wait on."""
        waiting = self._waiting.pop(machine.runtime["vm_id"], [])
        later = [each for each in waiting if state is not each.state and state not in _OVERTAKEN_IN[each.state]]
        if later:
            self._waiting[machine.runtime["vm_id"]] = later
        for each in waiting:
            if each not in later:
                (each.act if each.state is state else each.overtaken)()

    def _after(self, lasts_s: float, act: Then) -> None:
        self._world.at(self._world.clock.monotonic() + lasts_s, act)


def allocation_failed(zones: list[str], size: catalogue.Size, *, constrained: bool = False) -> ArmError:
    """No hardware is free: the error comes by the operation, and the machine stays behind as Failed."""
    guidance = "Read more about improving likelihood of allocation success at http://aka.ms/allocation-guidance"
    if constrained:
        return ArmError(
            409,
            "OverconstrainedZonalAllocationRequest" if zones else "OverconstrainedAllocationRequest",
            "Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too "
            f"restrictive. Please remove some constraints and try again. Constraints applied are: {size.name}.",
        )
    if zones:
        return ArmError(
            409,
            "ZonalAllocationFailed",
            f"Allocation failed. We do not have sufficient capacity for the requested VM size in this zone. {guidance}",
        )
    return ArmError(
        409,
        "AllocationFailed",
        f"Allocation failed. We do not have sufficient capacity for the requested VM size in this region. {guidance}",
    )
