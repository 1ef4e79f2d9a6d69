"""What tests of the live page in a real browser share; they are skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("background-networking", "component-update", "sync", "gpu", "quic", "extensions")
PATIENCE = 120_000
"""Milliseconds: machines that test have other things to do."""
MARKS = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in QUIET)]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser) -> Iterator[Any]:
    """Opens pages; at the end none of them may have complained."""
    contexts, complaints = [], []

    def open_page(address: str) -> Any:
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://{address}/")
        page.wait_for_selector('#connection[data-state="connected"]')
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [one for one in complaints if "ERR_CONNECTION" not in one and "WebSocket connection" not in one] == []


def begin_anew(page: Any) -> None:
    """Asks for the next game, and waits for it."""
    game = page.inner_text(".of-game b")
    page.click("button.next-game")
    page.wait_for_function("game => document.querySelector('.of-game b').textContent !== game", arg=game)


def play_to_the_right(page: Any) -> None:
    """Takes a frozen lake over and moves from its first square to the one right of it."""
    page.click("button.take-over")
    page.wait_for_selector(".view-game.driven")
    begin_anew(page)
    page.wait_for_selector(".tables tr:nth-child(1) td:nth-child(1).here")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".tables tr:nth-child(1) td:nth-child(2).here")
