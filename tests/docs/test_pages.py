"""Every command and snippet of the pages that teach does what the page says, from top to bottom in a fresh folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import parts
import pytest
from doc_pages import ANSWERS, COMMANDS, Shell, blocks_of, name_of, not_run, pages, parts_of, shell_in, walk

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

RUN = [page for page in pages() if any("not run" not in block.said and block.language for block in blocks_of(page))]
OURS = "it makes the environment that the test itself runs in"
ALL = "these are all the tests, this one among them"
WRITES = "it writes to this repository"
MONEY = "it needs an account at a cloud, and money"
ASKS = "it asks a package registry"
SYSTEMD = "it needs systemd and a machine of its own"
FLEET = "it needs a database server and several machines"
BACKUP = "a test of the store runs this very command, while the file is written to"
PICTURE = "a picture of the command; the rehearsal below runs it"
CLOUD = "it needs a machine on a cloud; the page on tearing down runs both"
ALL_DOWN = "it takes down all that a fabric has on a cloud"
WITHIN = "it starts the tests within a test"
FETCHES, PROJECT = "it fetches packages", "it is a file of a project, and the root has it"
ENGINE = "tests/{}.py runs it where the engine is"
STEPS = "tests/stacks/test_pulumi_unhappy.py runs its steps where the engine is"
NOT_RUN = {
    "docs/tutorial/first-ten-minutes.md": [OURS],
    "docs/how-to/your-own-account.md": [MONEY, MONEY, MONEY, MONEY],
    "docs/runbooks/cell-not-ready.md": [PICTURE, CLOUD],
    "docs/runbooks/service-routing.md": [PICTURE],
    "docs/runbooks/suspected-compromise.md": [ALL_DOWN],
    "docs/how-to/deploy-a-fleet.md": [SYSTEMD],
    "docs/how-to/postgresql.md": [FLEET, FLEET, FLEET, FLEET, BACKUP],
    "docs/how-to/pulumi.md": [
        FETCHES,
        PROJECT,
        ENGINE.format("stacks/test_pulumi_project"),
        ENGINE.format("cli/test_by_pulumi"),
        ENGINE.format("stacks/test_pulumi_backends"),
    ],
    "docs/how-to/pulumi-in-ci.md": [STEPS, "tests/stacks/test_pulumi_unhappy.py runs the same commands"],
    "CONTRIBUTING.md": [OURS, ALL, WITHIN, WRITES, WRITES, ASKS],
}
"""Every block that is not run, in the order of its page; a new one is a choice that is seen here."""


@pytest.fixture
def shell(tmp_path: Path, home: Path) -> Iterator[Shell]:
    with shell_in(tmp_path) as somebody:
        yield somebody


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_does_what_it_says(page: Path, shell: Shell) -> None:
    for part in parts_of(page):
        parts.need(part, in_ci=IN_CI)
    walk(page, shell)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_of_a_page_is_of_a_kind_that_is_run_or_says_why_not(page: Path) -> None:
    known = {"": "a picture", **dict.fromkeys((*COMMANDS, *ANSWERS), "run")}
    unknown = [
        f"line {block.line}: {block.language}"
        for block in blocks_of(page)
        if block.language not in known and not {"file", "part of", "not run"} & block.said.keys()
    ]
    assert unknown == []


def test_what_is_not_run_is_known_with_its_reason() -> None:
    assert {name_of(page): reasons for page in pages() if (reasons := list(not_run(page)))} == NOT_RUN
