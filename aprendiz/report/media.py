"""Pictures, texts and videos of runs: small enough to lie in the page, or linked."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import mimetypes
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aprendiz.report.core import Medium, RunData

STAGES = 4
"""Pictures and texts shown of a run, from its beginning to its end."""
PICTURE_PIXELS = 560
"""Larger pictures are made smaller; the original is linked."""
PICTURE_BYTES, VIDEO_BYTES, TEXT_CHARACTERS = 150_000, 700_000, 1500
"""What lies in the page at most; more of it is linked, of a text cut off."""
VIDEOS = 1


@dataclass(frozen=True)
class Shown:
    """A medium as the page has it."""

    run: int
    kind: str
    name: str
    step: int | None
    link: str
    """Where the file lies, seen from the report."""
    content: str = ""
    """A data: address, or a text; empty where it is only linked."""


def choose(media: Sequence[Medium], kind: str, most: int) -> list[Medium]:
    """At most so many of a kind, spread evenly from first to last; those without a step only where no others are."""
    of_kind = [one for one in media if one.kind == kind]
    dated = [one for one in of_kind if one.step is not None] or of_kind
    if len(dated) <= most:
        return dated
    if most == 1:
        return dated[-1:]
    return [dated[round(place * (len(dated) - 1) / (most - 1))] for place in range(most)]


def show(runs: Sequence[RunData], report: Path, budget_bytes: int) -> list[Shown]:
    """What is shown of each run, the newest of everybody first into the page, until the budget is spent.

    Only then come earlier stages; what finds no room, or cannot be read, is linked.
    """
    wanted: list[tuple[int, int, Medium]] = []  # how old, of which run
    for index, run in enumerate(runs):
        for kind, most in (("image", STAGES), ("text", STAGES), ("video", VIDEOS)):
            for age, one in enumerate(reversed(choose(run.media, kind, most))):
                wanted.append((age, index, one))
    shown: dict[tuple[int, Path], Shown] = {}
    left = budget_bytes
    for _, index, one in sorted(wanted, key=lambda item: (item[0], item[2].kind == "video", item[1])):
        content = ""
        if left > 0:
            with contextlib.suppress(Exception):  # of damaged files Pillow raises its own, SyntaxError, struct.error
                content = _content(one)
        cost = _cost(content)
        if cost > left:
            content, cost = "", 0
        left -= cost
        shown[(index, one.path)] = Shown(index, one.kind, one.path.name, one.step, _link(one.path, report), content)
    return [shown[(index, one.path)] for _, index, one in sorted(wanted, key=lambda item: (item[1], -item[0]))]


def _cost(text: str) -> int:
    """Bytes of a text in the page."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace")) - 2 + 5 * text.count("<")


def _link(path: Path, report: Path) -> str:
    from urllib.parse import quote

    try:
        relative = os.path.relpath(path.resolve(), report.resolve().parent)
    except ValueError:  # another drive
        return path.resolve().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))  # a name need not be text


def _content(one: Medium) -> str:
    if one.kind == "text":
        text = one.path.read_text(encoding="utf-8", errors="replace")
        if one.path.suffix.lower() == ".html":  # as W&B keeps texts
            text = html.unescape(re.sub(r"<[^>]*>", "", text))
        return text if len(text) <= TEXT_CHARACTERS else text[:TEXT_CHARACTERS] + " ..."
    if one.kind == "video":
        if one.path.stat().st_size > VIDEO_BYTES:
            return ""
        kind = mimetypes.guess_type(one.path.name)[0] or "video/mp4"
        return f"data:{kind};base64,{base64.b64encode(one.path.read_bytes()).decode()}"
    return picture(one.path)


def picture(path: Path) -> str:
    """A data: address of a picture, made smaller where it is large. Raises OSError where it is none."""
    from PIL import Image

    raw = path.read_bytes()
    with Image.open(io.BytesIO(raw)) as image:
        if len(raw) <= PICTURE_BYTES // 2 and max(image.size) <= 2 * PICTURE_PIXELS:
            kind = (image.format or "png").lower()
            return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"
        image.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
        small = image.convert("RGB")
    for quality in (85, 60, 40):
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= PICTURE_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
