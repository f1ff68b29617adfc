"""Speaks to a scheduler about services: one method per route, as ``client`` has them for the rest."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.service_messages import (
    InstanceLogView,
    OfInstance,
    Removal,
    Scale,
    ServiceList,
    ServiceLogs,
    ServiceSpec,
    ServiceView,
)

HERE = "/api/v1/services"


class ServicesClient(SchedulerClient):
    """A scheduler's client that knows of services. Where a tenant asks, they are its own."""

    def deploy_service(self, spec: ServiceSpec) -> ServiceView:
        """Wants the service; its module is there. The same spec again changes nothing."""
        return self._call("POST", HERE, ServiceView, spec)

    def services(self) -> list[ServiceView]:
        return self._get(HERE, ServiceList).services

    def service(self, name: str) -> ServiceView:
        return self._get(_path(name), ServiceView)

    def scale_service(self, name: str, replica_count: int) -> ServiceView:
        return self._of(name, "scale", Scale(replica_count))

    def cut_over_service(self, name: str, instance_id: str = "") -> ServiceView:
        return self._of(name, "cutover", OfInstance(instance_id))

    def fail_over_service(self, name: str, instance_id: str = "") -> ServiceView:
        return self._of(name, "failover", OfInstance(instance_id))

    def remove_service(self, name: str, *, at_once: bool = False) -> ServiceView:
        return self._of(name, "remove", Removal(at_once))

    def service_logs(self, name: str) -> list[InstanceLogView]:
        return self._get(f"{_path(name)}/logs", ServiceLogs).logs

    def _of(self, name: str, what: str, body: msgspec.Struct) -> ServiceView:
        return self._call("POST", f"{_path(name)}/{what}", ServiceView, body)


def _path(name: str) -> str:
    return f"{HERE}/{quote(name, safe='')}"
