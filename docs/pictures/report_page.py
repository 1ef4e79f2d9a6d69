"""A screenshot of a report, out of a Chromium that is installed.

python docs/pictures/report_page.py report.html --out docs/pictures/report.webp [--at '#media'] [--hover train/loss]
"""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image
from playwright.sync_api import sync_playwright

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError

PROG = "python docs/pictures/report_page.py"


@dataclass(frozen=True, kw_only=True)
class Options:
    page: Annotated[Path, tyro.conf.Positional]
    """What python -m aprendiz.report wrote."""
    out: Path = Path(__file__).parent / "report.webp"
    """Picture to write; its ending says which kind."""
    at: str = ""
    """CSS selector of what is scrolled to. Empty: the beginning of the page."""
    hover: str = ""
    """Metric over whose first panel the pointer stands, two thirds along. Empty: none."""
    width: int = 1240
    """Of the window, in pixels."""
    height: int = 900
    """Of the window, in pixels."""
    dark: bool = False


def make(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog=PROG, description=__doc__ or "")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise ConfigError("there is no Chromium here; install one")
    if not options.page.is_file():
        raise ConfigError(f"there is no file {options.page}; python -m aprendiz.report makes one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        size = {"width": options.width, "height": options.height}
        scheme = "dark" if options.dark else "light"
        tab = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        tab.on("console", lambda said: print(f"{said.type}: {said.text}", file=sys.stderr))
        tab.on("pageerror", lambda error: print(error, file=sys.stderr))
        tab.goto(options.page.resolve().as_uri())
        if options.at:
            if tab.locator(options.at).count() == 0:
                raise ConfigError(f"nothing in the page answers to {options.at!r}; #media and #section-0 may")
            tab.wait_for_timeout(100)  # until it knows how high its controls are
            tab.evaluate("selector => document.querySelector(selector).scrollIntoView()", options.at)
        tab.wait_for_timeout(500)  # curves are drawn when they come into view
        if options.hover:
            plot = tab.locator(f'.plot[data-metric="{options.hover}"]').first
            box = plot.bounding_box()
            if box is None:
                raise ConfigError(f"there is no panel of {options.hover!r}")
            tab.mouse.move(box["x"] + box["width"] * 2 / 3, box["y"] + box["height"] / 2)
            tab.wait_for_timeout(100)
        picture = tab.screenshot()
        browser.close()
    Image.open(io.BytesIO(picture)).convert("RGB").save(options.out, quality=85)
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    main(make)
