"""A question that did not get through is asked again; also the first one, of who asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grafos_connectors.contract import CloudError
from grafos_connectors.registry import open_connector
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_stacks.asking import identity_of

REGIONS = {"aws": "us-east-1", "azure": "eastus", "gcp": "us-central1"}


@pytest.fixture(params=sorted(REGIONS))
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, EmulatedClouds]]:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=(request.param,), boots=False)) as clouds:
        yield request.param, clouds


def test_a_cloud_that_asks_for_fewer_requests_is_waited_for_from_the_first_question_on(
    cloud: tuple[str, EmulatedClouds],
) -> None:
    provider, clouds = cloud
    throttled = Fault(Effect.REFUSE, ErrorClass.THROTTLED, retry_after_s=2.0)
    clouds.faults.add(FaultRule(throttled, provider=provider, times=8))
    connector = open_connector(provider, REGIONS[provider], environment=clouds.environment())
    waits: list[float] = []
    assert identity_of(connector, waits.append).account
    assert clouds.faults.rules() == ()
    assert min(waits) >= 2.0


def test_credentials_that_do_not_let_us_in_are_not_tried_twice(cloud: tuple[str, EmulatedClouds]) -> None:
    provider, clouds = cloud
    clouds.faults.add(FaultRule(Fault(Effect.REFUSE, ErrorClass.AUTH), provider=provider, times=0))
    connector = open_connector(provider, REGIONS[provider], environment=clouds.environment())
    waits: list[float] = []
    with pytest.raises(CloudError) as refused:
        identity_of(connector, waits.append)
    assert (refused.value.code, waits) == ("cloud_auth", [])
