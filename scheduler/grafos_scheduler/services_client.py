"""Speaks to a scheduler about services: one method per route, as ``client`` has them for the rest."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import msgspec

from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.service_door import Door
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
from grafos_scheduler.wire import TIMEOUT_S

HERE = "/api/v1/services"


class ServicesClient(SchedulerClient):
    """A scheduler's client that knows of services. Where a tenant asks, they are its own. ``door`` is the way to
    sessions with them."""

    def __init__(
        self,
        url: str,
        ca_pem: str,
        certificate: Path,
        key: Path,
        api_token: str,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = 0.0,
    ) -> None:
        super().__init__(url, ca_pem, certificate, key, api_token, timeout_s=timeout_s, patience_s=patience_s)
        self.door = Door(url, ca_pem, certificate, key, api_token)

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
