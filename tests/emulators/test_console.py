from __future__ import annotations

import os
from pathlib import Path

import pytest

from grafos_emulators.boot.console import Console


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this host has no device that is always full")
def test_a_full_disk_loses_what_is_printed_and_not_the_machine() -> None:
    console = Console(Path("/dev/full"))
    os.write(console.write_end, b"printed")
    console.say("a line")
    assert console.relay()
    assert not console.relay()
