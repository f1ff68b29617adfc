"""Emulators for the tests of this room: real servers on loopback, asked with the real SDK."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.lifecycle import LifecycleTimes

# One attempt: what the emulator answers is what the test sees.
ONE_ATTEMPT = Config(retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=5, read_timeout=30)
QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)
WAIT_LIMIT_S = 60.0  # a busy host is slow; a test that would wait for ever fails instead

Launch = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def sdk() -> boto3.Session:
    """One session, because it reads its large models once."""
    return boto3.Session()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def aws(tmp_path: Path, clock: VirtualClock) -> Iterator[EmulatedClouds]:
    """An emulator whose machines are states only, on a clock that the test steps."""
    with EmulatedClouds(tmp_path / "emulator", Settings(clouds=("aws",), boots=False), clock=clock) as emulator:
        yield emulator


@pytest.fixture
def client(aws: EmulatedClouds, sdk: Any) -> Iterator[Callable[..., Any]]:
    """``client("sts", region_name=…)``: an SDK client of the emulator ``aws``."""
    with contextlib.ExitStack() as open_clients:

        def make(service: str, **changes: str) -> Any:
            made = sdk.client(service, config=ONE_ATTEMPT, **{**aws.client_arguments(), **changes})
            return open_clients.enter_context(contextlib.closing(made))

        yield make


@pytest.fixture
def ec2(client: Callable[..., Any]) -> Any:
    return client("ec2")


@pytest.fixture
def launch(ec2: Any) -> Launch:
    return launcher(ec2)


@pytest.fixture
def booting(tmp_path: Path) -> Iterator[EmulatedClouds]:
    """An emulator whose machines run their user data, in real time."""
    with EmulatedClouds(tmp_path / "emulator", Settings(clouds=("aws",), times=QUICK)) as emulator:
        yield emulator


@pytest.fixture
def real_ec2(booting: EmulatedClouds, sdk: boto3.Session) -> Iterator[Any]:
    client = sdk.client("ec2", config=ONE_ATTEMPT, **booting.client_arguments())
    yield client
    client.close()


@pytest.fixture
def boot(real_ec2: Any) -> Launch:
    return launcher(real_ec2)


def launcher(ec2: Any) -> Launch:
    """``launch(UserData=…)``: one machine of the host's architecture; gives the instance as RunInstances told it."""
    image = ec2.describe_images(Owners=["136693071363"])["Images"][0]
    machine_type = {"x86_64": "t3.medium", "arm64": "t4g.medium"}[image["Architecture"]]

    def launch(**changes: Any) -> dict[str, Any]:
        asked = {"ImageId": image["ImageId"], "InstanceType": machine_type, "MinCount": 1, "MaxCount": 1, **changes}
        instance: dict[str, Any] = ec2.run_instances(**asked)["Instances"][0]
        return instance

    return launch


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """``until(look)``: looks until what it sees is true, and gives that."""

    def look_until(look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_LIMIT_S
        while time.monotonic() < deadline:
            seen = look()
            if seen:
                return seen
            time.sleep(0.02)
        raise AssertionError(f"not within {WAIT_LIMIT_S} s: {look}")

    return look_until
