"""An instance and its machine in the world: what one's life means for the other.

A guest that powers itself off leaves its instance ``TERMINATED``, and the disk goes on billing. The cloud itself ends a
machine at the time limit it was made with, also when nothing inside it works any more; a machine that is stopped has no
limit until it is started again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from grafos_emulators import imds
from grafos_emulators.boot.driver import GCP, TAR_GZ, MachineDisk, MachineSetup
from grafos_emulators.gcp.calls import Trouble
from grafos_emulators.gcp.errors import OperationError
from grafos_emulators.gcp.images import own_image
from grafos_emulators.gcp.instance_plan import STARTUP_SCRIPT, USER_DATA, InstancePlan
from grafos_emulators.gcp.operations import PENDING, SYSTEM, Operation
from grafos_emulators.gcp.project import Project, Resource
from grafos_emulators.gcp.scheduling import PREEMPTION_GRACE_S, Scheduling
from grafos_emulators.gcp.times import rfc3339
from grafos_emulators.lifecycle import Happening, MachineState
from grafos_emulators.world import Machine

_STATUS = {
    MachineState.RUNNING: "RUNNING",
    MachineState.STOPPING: "STOPPING",
    MachineState.STOPPED: "TERMINATED",
    MachineState.ENDING: "STOPPING",
    MachineState.GONE: "STOPPING",
}


@dataclass
class Instance(Resource):
    """``state`` is None for one that gets no machine, because its operation is going to fail.

    ``terminates_at`` is unix seconds, 0 without a limit. ``awaited`` are operations that end with a state.
    """

    plan: InstancePlan = field(kw_only=True)
    state: MachineState | None = None
    starts: int = 0
    preempted: bool = False
    terminates_at: float = 0.0
    address: str = ""
    insert: Operation | None = None
    awaited: list[tuple[Operation, MachineState]] = field(default_factory=list)

    @property
    def machine_id(self) -> str:
        return str(self.body["id"])

    @property
    def uses_quota(self) -> bool:
        return self.state not in {MachineState.STOPPED, MachineState.GONE}

    @property
    def reserved(self) -> str:
        return self.plan.reserved

    @property
    def scheduling(self) -> Scheduling:
        return self.plan.scheduling

    @property
    def status(self) -> str:
        """GCE's word: ``PROVISIONING``, ``STAGING``, ``RUNNING``, ``STOPPING`` or ``TERMINATED``."""
        if self.state in _STATUS:
            return _STATUS[self.state]
        return "PROVISIONING" if self.insert is None or self.insert.status == PENDING else "STAGING"

    @property
    def items(self) -> dict[str, str]:
        """The metadata of its owner."""
        return {each["key"]: each.get("value", "") for each in self.body["metadata"].get("items", ())}


def view(project: Project, instance: Resource) -> dict[str, Any]:
    """The instance as an answer shows it."""
    assert isinstance(instance, Instance), "only instances are kept as such"
    interface = dict(instance.body["networkInterfaces"][0])
    if instance.address:
        interface["networkIP"] = instance.address
    if "accessConfigs" in interface and instance.address and instance.uses_quota:
        interface["accessConfigs"] = [{**interface["accessConfigs"][0], "natIP": instance.address}]
    body = {**instance.body, "status": instance.status, "networkInterfaces": [interface]}
    if instance.terminates_at:
        body["resourceStatus"] = {"scheduling": {"terminationTimestamp": rfc3339(instance.terminates_at)}}
    attached = [dict(each, architecture=instance.plan.machine_type.architecture) for each in body["disks"]]
    return {**body, "disks": attached, "fingerprint": project.fingerprint_of(instance)}


class Life:
    """Launches machines for instances, and carries out what time brings them."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def launch(self, instance: Instance, trouble: Trouble) -> None:
        """Gives the instance a machine; its address, its own or a reserved one, is on loopback and the same inside."""
        project = self._project
        reserved = project.resources.get(instance.reserved)
        instance.address = reserved.body["address"] if reserved else project.addresses.take()
        project.launched[instance.machine_id] = instance
        setup = MachineSetup(
            machine_id=instance.machine_id,
            address=instance.address,
            user_data=instance.items.get(STARTUP_SCRIPT, "").encode(),
            runs_user_data=instance.plan.runs_script,
            runs_image=GCP if instance.plan.runs_image else "",
            runs_at_each_boot=True,
            environment={imds.VARIABLE: imds.endpoint_of(instance.machine_id, project.endpoint)},
            disk=self._disk_of(instance),
        )
        first_run: list[tuple[float, Callable[[], None]]] = []
        if trouble.preempted_after_s is not None and instance.scheduling.spot:
            first_run.append((trouble.preempted_after_s, lambda: self.preempt(instance)))
        if trouble.dies_after_s is not None:
            first_run.append((trouble.dies_after_s, lambda: self._die(instance)))

        def changed(machine: Machine) -> None:
            if machine.state is MachineState.STARTING:  # it may have another script by now
                script = instance.items.get(STARTUP_SCRIPT, "").encode()
                machine.setup = replace(machine.setup, user_data=script)
            self._changed(instance, machine)
            if machine.state is MachineState.RUNNING:
                for after_s, act in first_run:
                    project.world.at(project.world.clock.monotonic() + after_s, act)
                first_run.clear()

        project.world.launch(Machine(setup, ends_when_off=lambda: False, changed=changed))

    def _disk_of(self, instance: Instance) -> MachineDisk | None:
        """The disk of the image of the project's own that it was made from."""
        image = own_image(self._project, instance.plan.boot_image)
        if image is None:
            return None
        arch = {"X86_64": "amd64", "ARM64": "arm64"}[image.body["architecture"]]
        told = instance.items.get(USER_DATA, "").encode()
        return MachineDisk(self._project.image_archives[image.path], TAR_GZ, GCP, arch, told)

    def order(self, instance: Instance, happening: Happening, operation: Operation, until: MachineState) -> bool:
        """Orders the machine on; ``operation`` ends when it has come to ``until``. False if the order means nothing."""
        instance.awaited.append((operation, until))
        if self._project.world.ask(instance.machine_id, happening, reason="user"):
            return True
        instance.awaited.remove((operation, until))
        return False

    def preempt(self, instance: Instance) -> None:
        """The notice: from now on the metadata says so; the machine ends after the grace."""
        if instance.state is not MachineState.RUNNING:
            return
        instance.preempted = True
        ends_at = self._project.world.clock.now() + instance.scheduling.notice_s + PREEMPTION_GRACE_S
        self._project.world.give_notice(instance.machine_id, ends_at)
        operation = self._system_operation(instance, "compute.instances.preempted")
        after_s = instance.scheduling.notice_s + PREEMPTION_GRACE_S
        starts = instance.starts

        def ends() -> None:
            self._project.operations.finish(operation)
            self._terminate(instance, starts)

        self._at(after_s, ends)

    def fail(self, instance: Instance, operation: Operation, error: OperationError | None) -> None:
        """An instance that comes to nothing: it is shown until the operation ends, and then is gone, with its disks."""
        project = self._project

        def ends() -> OperationError | None:
            self._remove(instance)
            return error

        project.operations.after(operation, project.world.times.starting_s, ends)

    def _changed(self, instance: Instance, machine: Machine) -> None:
        instance.state = machine.state
        project, now = self._project, self._project.world.clock.now()
        if machine.state is MachineState.RUNNING:
            instance.starts += 1
            instance.ready = True
            instance.body["lastStartTimestamp"] = rfc3339(now)
            for path in self._disks(instance):
                project.resources[path].ready = True
            self._limit(instance, now)
        elif machine.state is not MachineState.STARTING:
            instance.terminates_at = 0.0
            instance.preempted = instance.preempted and machine.state is not MachineState.STOPPED
        if machine.state is MachineState.STOPPED:
            instance.body["lastStopTimestamp"] = rfc3339(now)
        self._finish_awaited(instance)
        if machine.state is MachineState.GONE:
            if not instance.reserved:
                project.addresses.give_back(instance.address)
            del project.launched[instance.machine_id]
            self._remove(instance)
            project.world.at(project.world.clock.monotonic(), lambda: project.world.forget(instance.machine_id))

    def _finish_awaited(self, instance: Instance) -> None:
        """Ends what waited for this state, and what waited for one that comes no more: a later order was faster."""
        leaving = instance.state in {MachineState.ENDING, MachineState.GONE}
        stopping = instance.state in {MachineState.STOPPING, MachineState.STOPPED}
        for operation, until in tuple(instance.awaited):
            overtaken = (leaving and until is not MachineState.GONE) or (stopping and until is MachineState.RUNNING)
            if until is instance.state or overtaken:
                self._project.operations.finish(operation)
                instance.awaited.remove((operation, until))

    def _limit(self, instance: Instance, now: float) -> None:
        """The time limit begins to count when the machine runs."""
        scheduling, starts = instance.scheduling, instance.starts
        if scheduling.ends_at is None and scheduling.run_s is None:
            return
        ends_at = scheduling.ends_at if scheduling.ends_at is not None else now + (scheduling.run_s or 0.0)
        instance.terminates_at = ends_at
        self._at(max(ends_at - now, 0.0), lambda: self._terminate(instance, starts))

    def _terminate(self, instance: Instance, starts: int) -> None:
        """The cloud's own end of a machine, unless it was stopped since."""
        if instance.starts != starts or instance.state is not MachineState.RUNNING:
            return
        if instance.scheduling.deletes:
            self.delete(instance, self._system_operation(instance, "delete"))
        else:
            operation = self._system_operation(instance, "stop")
            self.order(instance, Happening.STOP, operation, MachineState.STOPPED)

    def delete(self, instance: Instance, operation: Operation) -> None:
        """Begins to delete an instance that has a machine; the operation ends when it is gone."""
        instance.leaving = True
        self.order(instance, Happening.END, operation, MachineState.GONE)

    def _die(self, instance: Instance) -> None:
        """The host fails: the instance stops by itself."""
        if instance.state is not MachineState.RUNNING:
            return
        operation = self._system_operation(instance, "compute.instances.hostError")
        self._project.operations.finish(operation)
        self._project.world.ask(instance.machine_id, Happening.STOP, reason="crash")

    def _system_operation(self, instance: Instance, operation_type: str) -> Operation:
        return self._project.operations.begin(operation_type, instance.path, instance.machine_id, user=SYSTEM)

    def _disks(self, instance: Instance) -> list[str]:
        paths = (self._project.path_of(each["source"]) for each in instance.body["disks"])
        return [path for path in paths if path in self._project.resources]

    def _remove(self, instance: Instance) -> None:
        """Takes the instance away, and the disks that go with it: on failure all that it made, else by autoDelete."""
        failed = instance.state is None
        made = {each.path for each in instance.plan.disks}
        for disk in instance.body["disks"]:
            path = str(self._project.path_of(disk["source"]))
            if (path in made) if failed else disk["autoDelete"]:
                self._project.remove(path)
        self._project.remove(instance.path)

    def _at(self, after_s: float, act: Callable[[], None]) -> None:
        self._project.world.at(self._project.world.clock.monotonic() + after_s, act)


def rewritten(instance: Instance, scheduling: Scheduling) -> None:
    """Gives a stopped instance another scheduling."""
    instance.plan = replace(instance.plan, scheduling=scheduling)
    instance.body["scheduling"] = dict(scheduling.shown)
