"""What an event about services comes to: the rules stand in ``services`` and in the modules that it names."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, assert_never

from grafos_scheduler import service_events, service_outcomes, services
from grafos_scheduler.service_rows import Service

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft


def decided(draft: Draft, event: service_events.OfServices, chance: random.Random) -> Service | None:
    """The service as it is then, where somebody asked; a cell is answered by effects alone."""
    match event:
        case service_events.ServiceDeployed():
            return services.deployed(draft, event, chance)
        case service_events.ServiceScaled():
            return services.scaled(draft, event)
        case service_events.ServiceCutOver():
            return services.cut_over(draft, event)
        case service_events.ServiceFailedOver():
            return services.failed_over(draft, event)
        case service_events.ServiceRemoved():
            return services.removed(draft, event)
        case service_events.InstanceSaid():
            if is_current(draft, event.cell_id, event.link_id):
                service_outcomes.said(draft, event)
        case service_events.InstanceReported():
            if is_current(draft, event.cell_id, event.link_id):
                service_outcomes.reported(draft, event, chance)
        case _:
            assert_never(event)
    return None


def is_current(draft: Draft, cell_id: str, link_id: int) -> bool:
    return link_id != 0 and draft.state.link_of(cell_id) == link_id
