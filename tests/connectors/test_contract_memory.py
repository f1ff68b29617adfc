"""The contract's claims on its in-memory twin, with and without listing lag."""

from __future__ import annotations

import pytest
from contract_suite import ContractSuite, KeyIsATagClaims
from contract_work import Place
from twin_place import TWIN_KINDS, TwinPlace


class TestTwin(ContractSuite, KeyIsATagClaims):
    kinds = TWIN_KINDS

    @pytest.fixture(params=[0.0, 30.0], ids=["no-lag", "lag-30s"])
    def place(self, request: pytest.FixtureRequest) -> Place:
        return TwinPlace(request.param)
