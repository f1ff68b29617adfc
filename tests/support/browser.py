"""A headless Chromium for tests of pages, and what a program can see of their accessibility."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from parts import need, table

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

WAIT_MS = 60_000
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # Chromium refuses to run as root with it
)
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.tagName === "SCRIPT" || !element.offsetParent) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 80)]);
  }
  return found;
}"""
"""The contrast of every text that is to be seen, with the beginning of its element."""
UNNAMED = """[...document.querySelectorAll("input,select,textarea,button")]
  .filter((element) => !(element.labels?.length || element.textContent.trim())).length"""
INJECT = """() => new Promise((done) => {
  document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
  const script = document.createElement("script");
  script.textContent = "window.ran = 1";
  document.body.append(script);
})"""
"""Tries to run a script that the page does not have; gives the rule that stopped it."""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser, for all tests of a module: its start takes a second."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make set-up")
    need("browser", in_ci=IN_CI)
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=table().find_browser(), args=list(QUIET))
        yield running
        running.close()


@contextlib.contextmanager
def fresh_tab(browser: Any, **wishes: Any) -> Iterator[Any]:
    """A tab of a fresh profile; what its page did wrong fails the test."""
    context = browser.new_context(**wishes)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    yield page
    assert faults == []
    context.close()


def check_readable(tab: Any) -> None:
    """WCAG 2 AA as far as a program can see it: what axe-core finds, contrast, names, language, ids, narrow screens."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed: make set-up")
    found = axe.Axe().run(tab).response["violations"]
    wrong = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
    assert wrong == [], wrong
    assert [(ratio, what) for ratio, what in tab.evaluate(CONTRAST) if ratio < 4.5] == []
    assert tab.evaluate(UNNAMED) == 0
    assert tab.evaluate("document.documentElement.lang") == "en"
    assert tab.locator("h1").count() == tab.locator("main").count() == 1
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    tab.set_viewport_size({"width": 320, "height": 640})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
