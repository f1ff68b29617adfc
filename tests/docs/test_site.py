"""`make docs` makes a site without a warning, without a dead link, and with nothing in it from another host."""

from __future__ import annotations

import html.parser
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from source_tree import ROOT

BUILD_TIMEOUT_S = 280
pytestmark = pytest.mark.timeout(300)  # a build takes some 15 s; a machine with much else to do is slow
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
NOT_LOADED = {"next", "prev", "index", "search", "canonical"}  # `<link rel>` that only name a page


class Page(html.parser.HTMLParser):
    """What one page of the site links to, what it loads, and which anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        loaded = values.get(LOADED.get(tag, ""))
        if loaded and values.get("rel") not in NOT_LOADED:
            self.loads.append(loaded)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, made by the words of the Makefile in another folder."""
    words = re.search(r"-m sphinx (.*) docs build/docs$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words[1].split(), "-d", folder / "work", "docs", folder / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "site"


@cache
def page(path: Path) -> Page:
    return Page(path)


def pages_of(site: Path) -> list[Path]:
    found = sorted(site.rglob("*.html"))
    assert len(found) > 40
    return found


def test_every_link_inside_the_site_leads_to_a_page_and_an_anchor(site: Path) -> None:
    dead = []
    for path in pages_of(site):
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in page(target).anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    foreign = [
        f"{path.relative_to(site)}: {address}"
        for path in pages_of(site)
        for address in page(path).loads
        if urlsplit(address).netloc
    ]
    foreign += [
        f"{path.relative_to(site)}: {address}"
        for path in site.rglob("*.css")
        for address in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text())
    ]
    assert foreign == []


def test_every_page_of_the_folder_is_in_the_site(site: Path) -> None:
    docs = ROOT / "docs"
    missing = [
        path.relative_to(docs).as_posix()
        for path in docs.rglob("*.md")
        if not (site / path.relative_to(docs).with_suffix(".html")).is_file()
    ]
    assert missing == []


def test_the_folder_of_the_site_is_ignored_by_git() -> None:
    done = subprocess.run(["git", "check-ignore", "-q", "build/docs"], cwd=ROOT, check=False)
    assert done.returncode == 0
