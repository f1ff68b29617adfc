"""The methods of instances."""

from __future__ import annotations

from functools import partial
from typing import Any

from grafos_emulators.gcp import quotas
from grafos_emulators.gcp.calls import ApiCall, Handler
from grafos_emulators.gcp.catalog import SCOPES_BY_ZONE
from grafos_emulators.gcp.changes import change
from grafos_emulators.gcp.errors import (
    GceRefusal,
    OperationError,
    bad_request,
    condition_not_met,
    not_ready,
    pool_exhausted,
)
from grafos_emulators.gcp.instance_life import Instance, Life, rewritten, view
from grafos_emulators.gcp.instance_plan import InstancePlan, metadata, plan
from grafos_emulators.gcp.labels import setter
from grafos_emulators.gcp.listing import readers
from grafos_emulators.gcp.project import Project
from grafos_emulators.gcp.scheduling import parse
from grafos_emulators.lifecycle import Happening, MachineState


class Instances:
    """All methods of the collection ``instances`` that are imitated."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.life = Life(project)

    def handlers(self) -> dict[str, Handler]:
        own: dict[str, Handler] = {
            "compute.instances.insert": self._insert,
            "compute.instances.delete": self._delete,
            "compute.instances.stop": self._stop,
            "compute.instances.start": self._start,
            "compute.instances.setMetadata": self._set_metadata,
            "compute.instances.setScheduling": self._set_scheduling,
            "compute.instances.getSerialPortOutput": self._serial_port_output,
        }
        reading = readers(self._project, "instances", "instance", partial(view, self._project), scopes=SCOPES_BY_ZONE)
        return reading | own | setter(self._project, "instances")

    def _insert(self, call: ApiCall) -> dict[str, Any]:
        project, wanted = self._project, plan(self._project, call)
        project.refuse_taken(wanted.path)
        for disk in wanted.disks:
            project.refuse_taken(disk.path)
        error = call.trouble.error or self._lacks(wanted)  # counted before the machine itself is
        instance: Instance = project.add("instance", wanted.path, wanted.body, made=partial(Instance, plan=wanted))
        for disk in wanted.disks:
            project.add("disk", disk.path, disk.body)
        operation = project.operations.begin("insert", wanted.path, instance.machine_id, request_id=call.request_id)
        instance.insert = operation
        if error is not None or call.trouble.hollow:
            self.life.fail(instance, operation, error)
        else:
            instance.awaited.append((operation, MachineState.RUNNING))
            project.operations.run(operation, project.world.times.starting_s)
            self.life.launch(instance, call.trouble)
        return project.operations.view(operation)

    def _lacks(self, wanted: InstancePlan) -> OperationError | None:
        """Why the operation is going to fail: a quota, or a zone without room."""
        project = self._project
        needs = quotas.needs(wanted.machine_type, spot=wanted.scheduling.spot, addresses=int(wanted.external))
        for disk in wanted.disks:
            needs += quotas.disk_needs(int(disk.body["sizeGb"]), disk.body["type"].rpartition("/")[2])
        needs["INSTANCES"] += 1
        refusal = quotas.machine_refusal(project, wanted.region, needs)
        return refusal or self._no_room(wanted)

    def _no_room(self, wanted: InstancePlan) -> OperationError | None:
        project, name, zone = self._project, wanted.machine_type.name, wanted.zone
        if project.has_room(zone, name):
            return None
        others = project.zones_with_room(zone, wanted.machine_type.zones, name)
        return pool_exhausted(project.project_id, zone, name, others)

    def _delete(self, call: ApiCall) -> dict[str, Any]:
        instance = self._of(call)
        if instance.leaving or instance.state is None:
            raise not_ready(instance.path, self._project.project_id)
        if instance.body["deletionProtection"]:
            raise bad_request(
                "Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion."
                " Disable deletion protection first.'",
                "invalidResourceUsage",
            )
        operation = self._project.operations.begin(
            "delete", instance.path, instance.machine_id, request_id=call.request_id
        )
        if call.trouble.fails:
            self._project.operations.after(operation, self._project.world.times.ending_s, lambda: call.trouble.error)
        else:
            self._project.operations.run(operation, self._project.world.times.ending_s)
            self.life.delete(instance, operation)
        return self._project.operations.view(operation)

    def _stop(self, call: ApiCall) -> dict[str, Any]:
        return self._move(call, Happening.STOP, MachineState.STOPPED, self._project.world.times.stopping_s)

    def _start(self, call: ApiCall) -> dict[str, Any]:
        instance = self._of(call)
        ends_at = instance.scheduling.ends_at
        if ends_at is not None and ends_at <= self._project.world.clock.now():
            raise bad_request("The instance's terminationTime has passed: set another before it is started.", "invalid")
        if instance.state is MachineState.STOPPING:
            raise not_ready(instance.path, self._project.project_id)
        error = self._no_room(instance.plan) if instance.state is MachineState.STOPPED else None
        starting_s = self._project.world.times.starting_s
        return self._move(call, Happening.START, MachineState.RUNNING, starting_s, error)

    def _move(
        self,
        call: ApiCall,
        happening: Happening,
        until: MachineState,
        lasts_s: float,
        error: OperationError | None = None,
    ) -> dict[str, Any]:
        """Orders the machine on, by an operation that ends when it is there, or with the error."""
        instance, operations = self._of(call), self._project.operations
        if instance.leaving or instance.state is None:
            raise not_ready(instance.path, self._project.project_id)
        operation = operations.begin(call.method.verb, instance.path, instance.machine_id, request_id=call.request_id)
        if call.trouble.fails or error is not None:
            operations.after(operation, lasts_s, lambda: call.trouble.error or error)
        elif self.life.order(instance, happening, operation, until):
            operations.run(operation, lasts_s)
        elif instance.state is until:
            operations.after(operation, 0.0)
        else:
            instance.awaited.append((operation, until))
        return operations.view(operation)

    def _set_metadata(self, call: ApiCall) -> dict[str, Any]:
        instance = self._of(call)
        if call.body.get("fingerprint") != instance.body["metadata"]["fingerprint"]:
            raise condition_not_met("Supplied fingerprint does not match current metadata fingerprint.")
        return change(self._project, call, instance, {"metadata": metadata(call.body, "resource")})

    def _set_scheduling(self, call: ApiCall) -> dict[str, Any]:
        """A running instance keeps the scheduling that it has, its time limit above all."""
        instance, project = self._of(call), self._project
        if instance.state is not MachineState.STOPPED:
            raise GceRefusal(
                400, "invalid", "Scheduling can only be set on a stopped instance (in the state TERMINATED)."
            )
        scheduling = parse(call.body, instance.plan.machine_type, project.world.clock.now())
        if not call.trouble.fails:
            rewritten(instance, scheduling)
        return change(project, call, instance, {})

    def _serial_port_output(self, call: ApiCall) -> dict[str, Any]:
        instance = self._of(call)
        start = int(call.query.get("start", "0"))
        written = self._project.world.console(instance.machine_id) if call.query.get("port", "1") == "1" else b""
        start = max(len(written) + start, 0) if start < 0 else start
        return {
            "kind": "compute#serialPortOutput",
            "contents": written[start:].decode("utf-8", "replace"),
            "start": str(start),
            "next": str(max(len(written), start)),
            "selfLink": self._project.link(f"{instance.path}/serialPort"),
        }

    def _of(self, call: ApiCall) -> Instance:
        instance = self._project.get(call.target)
        assert isinstance(instance, Instance), "the path is of the collection instances"
        return instance
