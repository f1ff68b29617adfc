"""Services at a desk (see ``desk``): what a tenant asks of them, and what cells say of their instances."""

from __future__ import annotations

from typing import Any

from desk import MIB, SETTINGS, Desk
from msgspec.structs import replace

from grafos_core.receipts import InstanceReceipt, Signed
from grafos_core.resources import LISTENER
from grafos_scheduler import frames, rows, service_events, service_frames
from grafos_scheduler.service_messages import ActiveActive, ResourceRequirement, ServiceSpec
from grafos_scheduler.service_rows import Instance, Service

SPEC = ServiceSpec(
    name="web",
    module_hash="a" * 64,
    listener_port=8080,
    resources_per_instance=(ResourceRequirement("cpu", 1), ResourceRequirement("mem", MIB)),
)
KEY = "ada/web"
CELLS = ("cell-1", "cell-2", "cell-3")


class ServiceDesk(Desk):
    """A desk with ``cells`` ready cells."""

    def __init__(self, cells: int = 2, **options: Any) -> None:
        super().__init__(SETTINGS, **options)
        for cell_id in CELLS[:cells]:
            self.add_cell(cell_id)

    # --- what the tenant does ---

    def spec(self, replicas: int = 1, **changed: Any) -> ServiceSpec:
        return replace(SPEC, replication=ActiveActive(replicas), **changed)

    def deploy(self, replicas: int = 1, **changed: Any) -> Service:
        answer = self.tell(service_events.ServiceDeployed("ada", self.spec(replicas, **changed))).answer
        assert isinstance(answer, Service)
        return answer

    def serve(self, replicas: int = 1, **changed: Any) -> list[Instance]:
        """A service whose instances are all active."""
        self.deploy(replicas, **changed)
        self.bring_up()
        return self.standing(changed.get("name", "web"))

    # --- what is there ---

    def service(self, name: str = "web") -> Service:
        return self.state.services[f"ada/{name}"]

    def standing(self, name: str = "web") -> list[Instance]:
        return sorted(self.state.instances_of(f"ada/{name}"), key=lambda instance: instance.slot)

    def row(self, instance: Instance) -> Instance:
        return self.state.instances[instance.instance_id]

    def lease(self, instance: Instance, kind: str = LISTENER) -> rows.Lease:
        held = (self.state.leases.get(lease_id) for lease_id in instance.lease_ids)
        return next(lease for lease in held if lease is not None and lease.kind == kind)

    def leases(self, instance: Instance) -> list[rows.Lease]:
        return [self.state.leases[lease_id] for lease_id in instance.lease_ids if lease_id in self.state.leases]

    def kinds(self) -> list[str]:
        """What was put down in the audit log, in this order."""
        return [row.kind for kind, _, row in self.memory.load() if kind == rows.AUDIT]

    # --- what cells do ---

    def grant(self, instance: Instance) -> None:
        for lease in self.leases(instance):
            self.say(instance.cell_id, frames.LeaseGranted(lease.lease_id, lease.generation, f"token-{lease.lease_id}"))

    def listen(self, instance: Instance) -> None:
        said = service_frames.InstanceListening(instance.instance_id, 1)
        self.tell(service_events.InstanceSaid(instance.cell_id, self.state.link_of(instance.cell_id), said))

    def bring_up(self) -> None:
        """Every instance that is starting gets its leases and listens."""
        for instance in list(self.state.all_instances()):
            if instance.state == "starting":
                self.grant(instance)
                self.listen(instance)

    def report(self, instance: Instance, code: str = "finished", *, seconds: float = 1.0, **changed: Any) -> None:  # type: ignore[override]
        receipt = InstanceReceipt(
            fabric="fab",
            instance_id=instance.instance_id,
            service=instance.service,
            generation=1,
            tenant=instance.tenant,
            provider=instance.provider,
            cell_id=instance.cell_id,
            region=instance.region,
            module_sha256=instance.spec.module_hash,
            code=code,
            fuel_used=7,
            sessions_served=3,
            started_at=self.now,
            ended_at=self.now + seconds,
            boot_epoch=1,
        )
        signed = Signed("instance", b"", b"")
        ended = service_frames.InstanceEnded(instance.instance_id, code, "words", 7, 3, "log", signed)
        link_id = self.state.link_of(instance.cell_id)
        receipt = replace(receipt, **changed)
        self.tell(service_events.InstanceReported(instance.cell_id, link_id, ended, receipt))

    def torn_down(self, instance: Instance, *, fenced: bool = False) -> None:
        for lease in self.leases(instance):
            self.say(instance.cell_id, frames.LeaseTornDown(lease.lease_id, lease.generation, fenced=fenced))

    def renew(self) -> None:
        """Every renewal that was asked for is granted."""
        for lease in list(self.state.leases.values()):
            if lease.state == "asked" and lease.generation > 1:
                self.say(lease.cell_id, frames.LeaseGranted(lease.lease_id, lease.generation, "token"))

    def pass_time(self, seconds: int, *cells: str) -> None:
        """Time passes; ``cells`` beat, renew and start what they are told to."""
        for _ in range(seconds):
            self.wait(1, *cells)
            for lease in list(self.state.leases.values()):
                if lease.cell_id in cells and lease.state == "asked":
                    self.say(lease.cell_id, frames.LeaseGranted(lease.lease_id, lease.generation, "token"))
