"""Which images cells must be of, set and shown by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Person
from msgspec.structs import replace
from own_orchestrator import OwnOrchestrator
from vouching import vouched

from grafos_cellimage.record import read_record, write_record
from grafos_cli import fleet_list, provider
from grafos_cli.seen_cells import SeenCell, cell_document
from grafos_core.resources import Resources
from grafos_scheduler.messages import CellView

CONTENTS = "c" * 64


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who has claimed an orchestrator."""
    person = Person(tmp_path_factory.mktemp("ada"))
    orchestrator = OwnOrchestrator(person)
    claimed = person("fabric", "claim", orchestrator.url)
    assert claimed.code == 0, claimed.err
    yield person
    orchestrator.discard()


def an_image(person: Person, contents: str) -> str:
    disk = person.project / f"cell{contents[:3]}.raw"
    disk.write_bytes(b"boots")
    vouched(person, disk, contents=contents)
    return str(disk)


def test_images_are_demanded_by_their_disks_or_digests_and_lifted(ada: Person) -> None:
    assert "any image is let in" in ada("admin", "cell-images", "show").out
    disk = an_image(ada, CONTENTS)
    told = ada("admin", "cell-images", "demand", disk, "d" * 64, "--json").document["demand"]
    assert (told["digests"], told["vetoed"]) == ([CONTENTS, "d" * 64], [])
    shown = ada("admin", "cell-images", "show").out
    assert (CONTENTS in shown, "operator" in shown) == (True, True)
    audited = ada("admin", "audit-query", "--kind", "ImagesDemanded", "--json").document["records"]
    assert [record["details"]["images"] for record in audited] == [2]
    assert ada("admin", "cell-images", "lift", "--json").document["demand"]["digests"] == []


def test_what_is_no_image_or_bears_no_digest_is_refused(ada: Person) -> None:
    assert ada("admin", "cell-images", "demand", "nothing.raw").error_code == "image_invalid"
    assert ada("admin", "cell-images", "demand", an_image(ada, "")).error_code == "image_invalid"
    disk = an_image(ada, CONTENTS)
    write_record(replace(read_record(Path(disk)), contents_sha256="e" * 64))
    assert ada("admin", "cell-images", "demand", disk).error_code == "provenance_invalid", "nobody signed that"
    assert ada("admin", "cell-images", "show", "--json").document["demand"]["digests"] == []


def test_a_cell_is_shown_with_its_image_and_why_it_gets_no_runs() -> None:
    has = Resources(cpu_cores=2, mem_bytes=1 << 20)
    view = CellView("gcp-1", "gcp", "here", True, {}, has, Resources(), 0, 0.0, False, 1.0)
    told = replace(view, image_sha256=CONTENTS, image_veto="attestation: another is demanded")
    for one, texts in ((view, ("ready", "-")), (told, (f"ready; image {CONTENTS[:12]}; attestation", "(vetoed)"))):
        cell = SeenCell("gcp-1", "gcp", "registered", "https://127.0.0.1:1", {}, one)
        assert provider._cell_text(cell).startswith(texts[0])
        assert texts[1] in fleet_list._row(cell, 0.0, emulated=False)[8]
        assert (cell_document(cell)["image_sha256"], cell_document(cell)["ready"]) == (one.image_sha256, True)
