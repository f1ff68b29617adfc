"""The rows of the table of routes that are about services."""

from __future__ import annotations

from grafos_scheduler import service_handlers
from grafos_scheduler.authorize import OPERATOR, TENANT
from grafos_scheduler.route import Route, gate
from grafos_scheduler.service_messages import (
    OfInstance,
    Removal,
    Scale,
    ServiceList,
    ServiceLogs,
    ServiceSpec,
    ServiceView,
)

SERVICE_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/api/v1/services",
        gate("runs:write", TENANT),
        service_handlers.deploy,
        "Deploy a service, or another spec of one; the same spec again changes nothing.",
        ServiceView,
        body=ServiceSpec,
    ),
    Route(
        "GET",
        "/api/v1/services",
        gate("runs:read", TENANT, OPERATOR),
        service_handlers.list_services,
        "Services with their topology: a tenant's own, or all.",
        ServiceList,
    ),
    Route(
        "GET",
        "/api/v1/services/{name}",
        gate("runs:read", TENANT),
        service_handlers.show,
        "One service with its topology.",
        ServiceView,
    ),
    Route(
        "POST",
        "/api/v1/services/{name}/scale",
        gate("runs:write", TENANT),
        service_handlers.scale,
        "Have so many replicas from now on; those that are too many drain.",
        ServiceView,
        body=Scale,
    ),
    Route(
        "POST",
        "/api/v1/services/{name}/cutover",
        gate("runs:write", TENANT),
        service_handlers.cut_over,
        "Replace one instance as planned, or each in its turn: drain, revoke, replace.",
        ServiceView,
        body=OfInstance,
    ),
    Route(
        "POST",
        "/api/v1/services/{name}/failover",
        gate("runs:write", TENANT),
        service_handlers.fail_over,
        "Fence an instance at once; it is replaced when its end is sure.",
        ServiceView,
        body=OfInstance,
    ),
    Route(
        "POST",
        "/api/v1/services/{name}/remove",
        gate("runs:write", TENANT),
        service_handlers.remove,
        "End a service with its sessions, or at once; ask for the list to see when it is gone.",
        ServiceView,
        body=Removal,
    ),
    Route(
        "GET",
        "/api/v1/services/{name}/logs",
        gate("runs:read", TENANT),
        service_handlers.logs,
        "What the instances that ended left of their logs.",
        ServiceLogs,
    ),
)
