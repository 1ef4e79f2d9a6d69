"""A screenshot of the live page, out of a Chromium that is installed.

    python docs/pictures/live_page.py <run> [<run> ...] --out docs/pictures/live-page.webp [--seconds 20]

Serves the runs as `python -m agents.watch <run> ... --web` does, lets them play, and writes the page as it is then.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError

PROG = "python docs/pictures/live_page.py"


@dataclass(frozen=True, kw_only=True)
class Options:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or names of the runs, side by side."""
    out: Path = Path(__file__).parent / "live-page.webp"
    """Picture to write; its ending says which kind."""
    seconds: float = 15.0
    """How long the games are played first."""
    overlay: str = "off"
    """Saliency: off, gradient or perturbation."""
    click: tuple[str, ...] = ()
    """CSS selectors of what is clicked before."""
    width: int = 1180
    """Of the window, in pixels."""
    height: int = 900
    """Of the window, in pixels; the picture is as high as the page."""
    dark: bool = True


def make(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog=PROG, description=__doc__ or "")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise ConfigError("there is no Chromium here; install one")
    command = [sys.executable, "-m", "agents.watch", *options.runs, "--web", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        address = re.search(r"http://\S+", line)
        if address is None:
            raise ConfigError("the page could not be served; see above")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            scheme = "dark" if options.dark else "light"
            size = {"width": options.width, "height": options.height}
            page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            page.on("console", lambda said: print(f"{said.type}: {said.text}", file=sys.stderr))
            page.on("pageerror", lambda error: print(error, file=sys.stderr))
            page.goto(address.group())
            page.wait_for_selector("#connection[data-state=connected]")
            picture = look(page, options)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    Image.open(io.BytesIO(picture)).convert("RGB").save(options.out, quality=85)
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
    return 0


def look(page: Page, options: Options) -> bytes:
    if options.overlay != "off":
        for choice in page.locator("select.overlay").all():
            choice.locator(f"option[value={options.overlay}]").wait_for(state="attached")
            choice.select_option(options.overlay)
    for selector in options.click:
        page.click(selector)
    time.sleep(options.seconds)
    return page.screenshot(full_page=True)


if __name__ == "__main__":
    main(make)
