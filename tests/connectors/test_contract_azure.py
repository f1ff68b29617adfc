"""The contract's claims on Azure, against the emulated one over its real wire format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure_place import AZURE_KINDS, AzurePlace
from contract_suite import ContractSuite, TokensAreForgottenClaims
from contract_work import Place

from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings


class TestAzure(TokensAreForgottenClaims, ContractSuite):
    kinds = AZURE_KINDS

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        clock = VirtualClock()
        with EmulatedClouds(tmp_path, Settings(clouds=("azure",), boots=False), clock=clock) as clouds:
            yield AzurePlace(clouds, clock)
