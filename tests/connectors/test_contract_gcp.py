"""The contract's claims on Google Cloud, against the emulated one over its real wire format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from contract_suite import ContractSuite, NameIsUniqueClaims
from contract_work import Place
from gcp_place import GCP_KINDS, gcp_place


class TestGcp(ContractSuite, NameIsUniqueClaims):
    kinds = GCP_KINDS

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with gcp_place(tmp_path) as place:
            yield place
