"""The contract's claims in a real account, or in a rehearsal on an emulator. `make live` runs this, no test run does.

The folder of the run is named by GRAFOS_LIVE_FOLDER. What a claim begins is counted first, and what would pass the cap
ends the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract_suite import ContractSuite, KeyIsATagClaims, NameIsUniqueClaims, TokensAreForgottenClaims
from contract_work import Work
from live_place import LivePlace, kinds_of, read_info
from live_recordings import Recorder
from live_tap import Tap, recording

INFO = read_info(Path(os.environ["GRAFOS_LIVE_FOLDER"]))
STOPPED_AT_THE_CAP = 77
OWN: dict[str, tuple[type, ...]] = {
    "aws": (KeyIsATagClaims,),
    "azure": (TokensAreForgottenClaims,),
    "gcp": (NameIsUniqueClaims,),
}


@pytest.fixture(scope="session")
def tap() -> Iterator[Tap]:
    with recording(Recorder(Path(INFO.record_to))) as tap:
        yield tap


@pytest.fixture
def place(tap: Tap) -> Iterator[LivePlace]:
    place = LivePlace(INFO, tap)
    yield place
    place.clear()
    if place.refused is not None:  # for money, not by the cloud, whatever the claim made of it
        pytest.exit(f"stopped: {place.refused.what}", returncode=STOPPED_AT_THE_CAP)


class Live(ContractSuite):
    """The claims, but for the one that a young account's quota never lets pass."""

    def test_many_threads_on_one_connector_do_not_meet(self, work: Work) -> None:
        if INFO.cloud == "gcp" and not INFO.emulated:
            pytest.skip("on Google Cloud it takes 24 machines at once, more than a young project may have")
        super().test_many_threads_on_one_connector_do_not_meet(work)


def _claims() -> Any:
    return type("TestLive", (*OWN[INFO.cloud], Live), {"kinds": kinds_of(INFO.cloud), "__module__": __name__})


TestLive = _claims()
