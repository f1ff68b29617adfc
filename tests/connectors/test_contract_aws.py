"""The contract's claims on AWS, against the emulated one over its real wire format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_place import EC2_KINDS, AwsPlace
from contract_suite import ContractSuite, KeyIsATagClaims
from contract_work import Place

from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings


class TestAws(ContractSuite, KeyIsATagClaims):
    kinds = EC2_KINDS

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        clock = VirtualClock()
        with EmulatedClouds(tmp_path, Settings(clouds=("aws",), boots=False), clock=clock) as aws:
            yield AwsPlace(aws, clock)
