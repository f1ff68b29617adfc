"""The contract's claims on Azure, against the emulated one over its real wire format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure_place import AZURE_KINDS, AzurePlace
from contract_suite import ContractSuite, NameIsUniqueClaims
from contract_work import Place, Work

from grafos_connectors.contract import Kind, State
from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings


class TestAzure(ContractSuite, NameIsUniqueClaims):
    kinds = AZURE_KINDS

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        clock = VirtualClock()
        with EmulatedClouds(tmp_path, Settings(clouds=("azure",), boots=False), clock=clock) as clouds:
            yield AzurePlace(clouds, clock)

    def test_the_token_of_a_dead_machine_is_used_up(self, work: Work) -> None:
        """Not on Azure, which remembers no token: the name is free again, and the same call makes the next machine."""
        work.lay_ground(Kind.MACHINE)
        desired = work.desired(Kind.MACHINE)
        operation = work.connector.begin_create(desired, "token")
        work.finish(operation)
        work.finish(work.connector.begin_delete(operation.ref))
        assert work.connector.find(desired) is None
        work.settle()
        for need in (Kind.ADDRESS, Kind.NIC):  # they went with the machine
            work.make(need)
        again = work.finish(work.connector.begin_create(desired, "token"))
        assert again is not None
        assert again.state is State.READY
