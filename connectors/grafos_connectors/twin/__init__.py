"""The in-memory twin of the contract: a small cloud with a clock, listing lag, limits and planned faults.

For simulators and for the tests of whoever drives a connector::

    clock = VirtualClock()
    cloud = TwinCloud(clock, timings=Timings(listing_lag_s=5.0))
    connector = TwinConnector(cloud, faults=FaultPlan([Fault("begin_create", Effect.LOSE_ANSWER, kind=Kind.MACHINE)]))

The cloud outlives its connectors, as a real one outlives processes: a test that imagines a crash drops the connector
and makes another. ``cloud.world()`` is what truly exists, whoever made it; ``cloud.changing_calls`` counts.
"""

from __future__ import annotations

from grafos_connectors.twin.cloud import Limits, Timings, TwinCloud
from grafos_connectors.twin.connector import TwinConnector
from grafos_connectors.twin.faults import Effect, Fault, FaultPlan

__all__ = ["Effect", "Fault", "FaultPlan", "Limits", "Timings", "TwinCloud", "TwinConnector"]
