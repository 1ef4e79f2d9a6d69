"""Pictures of an agent at play: the game in colour on the left, what the agent sees and thinks on the right."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from agents.video import Moment
    from envs.core import EnvSpec

MARGIN, GAP = 18, 4
GAME_HEIGHT, GAME_MAX_WIDTH = 420, 720
PANEL_WIDTH = 4 * 84 + 3 * GAP  # the last four frames of Atari, pixel by pixel
HEIGHT = GAME_HEIGHT + 2 * MARGIN
HEIGHT_FOR_MANY_ACTIONS = HEIGHT + 60
MOST_NUMBERS = 8
"""Vectors with more numbers than this are drawn as one strip."""
RANGE_DECISIONS = 100
"""Bars are scaled to the values of so many last decisions, so that they do not jump with every one."""

BACKGROUND, TRACK, LINE = (16, 18, 24), (32, 36, 46), (48, 54, 68)
TEXT, DIM = (236, 239, 244), (138, 147, 166)
BLUE, GREEN, AMBER, RED = (92, 124, 190), (96, 208, 140), (244, 180, 84), (236, 110, 104)

_ACTIONS = {
    "CartPole": ("left", "right"),
    "Acrobot": ("torque -1", "torque 0", "torque +1"),
    "MountainCar": ("left", "none", "right"),
    "LunarLander": ("none", "left engine", "main engine", "right engine"),
    "FrozenLake": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("south", "north", "east", "west", "pick up", "drop off"),
    "Blackjack": ("stick", "hit"),
    "blackjack-cards": ("stick", "hit"),
    "slippery-gridworld": ("up", "right", "down", "left"),
    "gridworld": ("up", "right", "down", "left"),
}
_NUMBERS = {
    "CartPole": ("position", "velocity", "angle", "angular velocity"),
    "Acrobot": ("cos angle 1", "sin angle 1", "cos angle 2", "sin angle 2", "velocity 1", "velocity 2"),
    "MountainCar": ("position", "velocity"),
    "Pendulum": ("cos angle", "sin angle", "angular velocity"),
    "LunarLander": ("x", "y", "velocity x", "velocity y", "angle", "angular velocity", "left leg", "right leg"),
}


def action_names(spec: EnvSpec) -> list[str]:
    """A name for each action, or for each number of a continuous one: the console's, the usual ones of well-known
    environments, or `action 0`."""
    if spec.continuous:
        count = int(np.prod(spec.action_space.shape or ()))
        return ["torque"] if _family(spec) == "Pendulum" else [f"action {index}" for index in range(count)]
    names = list(spec.protocol.get("action_set", ())) or list(_ACTIONS.get(_family(spec), ()))
    if len(names) != spec.num_actions:
        return [f"action {action}" for action in range(spec.num_actions)]
    # UPRIGHTFIRE is up-right fire.
    return [re.sub("(up|down)(left|right)", r"\1-\2", name.lower()).replace("fire", " fire").strip() for name in names]


def _family(spec: EnvSpec) -> str:
    """`CartPole` for CartPole-v1 in any version and size; the name where it is not one of Gymnasium's."""
    return re.split(r"\d*x?\d*-v\d+$", str(spec.protocol.get("id", spec.name)))[0]


class Painter:
    """Draws one picture a moment, all of one size with even sides; remembers the range of the values seen so far.

    `frames`: how many of the frames of a stack the agent reads, the newest (`Agent.frames_read`); None: all of them.
    """

    def __init__(self, spec: EnvSpec, title: str = "", *, frames: int | None = None) -> None:
        self.spec, self.title, self.frames = spec, title, frames
        self.actions = action_names(spec)
        self.number_names = _NUMBERS.get(_family(spec), ())
        self._ranges: deque[tuple[float, float]] = deque(maxlen=RANGE_DECISIONS)
        self._largest: NDArray[np.float32] | None = None
        self._fonts: dict[int, ImageFont.ImageFont | ImageFont.FreeTypeFont] = {}
        self._width = 0
        self._height = HEIGHT if len(self.actions) <= 6 else HEIGHT_FOR_MANY_ACTIONS

    def paint(self, moment: Moment) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]."""
        game = _scaled(moment.picture)
        if not self._width:
            self._width = 3 * MARGIN + game.width + PANEL_WIDTH
            self._width += self._width % 2
        picture = Image.new("RGB", (self._width, self._height), BACKGROUND)
        self._draw = ImageDraw.Draw(picture)
        game_top = (self._height - game.height) // 2
        picture.paste(game, (MARGIN, game_top))
        if moment.ended:
            self._banner(picture, moment, game, game_top)
        left = self._width - MARGIN - PANEL_WIDTH
        bottom = self._header(moment, left)
        bottom = self._eye(picture, moment, left, bottom + 14)
        self._values(moment, left, bottom + 16)
        return np.asarray(picture)

    def _text(self, x: int, y: int, text: str, size: int, colour: tuple[int, int, int], anchor: str = "la") -> None:
        if size not in self._fonts:
            self._fonts[size] = ImageFont.load_default(size)
        self._draw.text((x, y), text, colour, self._fonts[size], anchor=anchor)

    def _banner(self, picture: Image.Image, moment: Moment, game: Image.Image, top: int) -> None:
        shade = Image.new("RGB", (game.width, 76), BACKGROUND)
        box = (MARGIN, top + game.height - 76)
        below = picture.crop((*box, MARGIN + game.width, top + game.height))
        picture.paste(Image.blend(below, shade, 0.85), box)
        middle = MARGIN + game.width // 2
        self._text(middle, box[1] + 26, moment.ended, 24, TEXT, "mm")
        self._text(middle, box[1] + 55, f"score {_number(moment.score)}", 18, GREEN, "mm")

    def _header(self, moment: Moment, left: int) -> int:
        right = left + PANEL_WIDTH
        self._text(left, MARGIN, self.title or self.spec.name, 13, DIM)
        self._text(left, MARGIN + 22, _number(moment.score), 40, TEXT)
        self._text(right, MARGIN + 28, f"step {moment.step:,}", 16, TEXT, "ra")
        self._text(right, MARGIN + 50, f"game {moment.game + 1}", 13, DIM, "ra")
        self._text(left, MARGIN + 68, "score", 13, DIM)
        self._draw.line((left, MARGIN + 92, right, MARGIN + 92), LINE)
        return MARGIN + 92

    def _eye(self, picture: Image.Image, moment: Moment, left: int, top: int) -> int:
        """What the agent sees; returns where it ends."""
        draw_below = top + 22
        if self.spec.observation_kind == "image":
            channels, height, width = moment.observation.shape
            stack = self.spec.frame_stack if channels % self.spec.frame_stack == 0 else 1
            frames = np.split(moment.observation, stack)[-(self.frames or stack) :]  # of [C / stack, H, W]
            what = f"last {len(frames)} frames, newest right" if len(frames) > 1 else f"{height} x {width}"
            self._caption(left, top, "what the agent sees", what)
            return self._frames(picture, frames, left, draw_below)
        if self.spec.observation_kind == "discrete":
            self._caption(left, top, "what the agent sees", "")
            states = int(self.spec.observation_space.n)  # type: ignore[attr-defined]
            state = int(moment.observation)
            self._text(left, draw_below, f"state {state}", 26, TEXT)
            self._text(left + PANEL_WIDTH, draw_below + 10, f"of 0 to {states - 1}", 13, DIM, "ra")
            track = draw_below + 40
            self._draw.rounded_rectangle((left, track, left + PANEL_WIDTH, track + 6), 3, TRACK)
            at = left + round(state / max(states - 1, 1) * (PANEL_WIDTH - 10))
            self._draw.rounded_rectangle((at, track - 2, at + 10, track + 8), 3, AMBER)
            return track + 10
        numbers = moment.observation.ravel()
        self._caption(left, top, "what the agent sees", f"{len(numbers)} numbers")
        size = np.abs(np.nan_to_num(numbers)).astype(np.float32)
        self._largest = size if self._largest is None else np.maximum(self._largest, size)
        if len(numbers) > MOST_NUMBERS:
            return self._strip(numbers, left, draw_below)
        return self._numbers(numbers, left, draw_below)

    def _caption(self, left: int, top: int, text: str, right_text: str) -> None:
        self._text(left, top, text, 14, TEXT)
        self._text(left + PANEL_WIDTH, top + 1, right_text, 13, DIM, "ra")

    def _frames(self, picture: Image.Image, frames: list[NDArray[np.uint8]], left: int, top: int) -> int:
        space = (PANEL_WIDTH - GAP * (len(frames) - 1)) // len(frames)
        lowest = top
        for index, frame in enumerate(frames):
            grey = len(frame) not in (3, 4)
            image = Image.fromarray(np.ascontiguousarray(frame[0] if grey else frame[:3].transpose(1, 2, 0)))
            factor = min(space / image.width, 168 / image.height)
            factor = int(factor) if factor >= 1.0 else factor
            size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
            image = image.resize(size, Image.Resampling.NEAREST if factor >= 1.0 else Image.Resampling.BOX)
            x = left + index * (space + GAP)
            picture.paste(image.convert("RGB"), (x, top))
            outline = AMBER if index == len(frames) - 1 and len(frames) > 1 else LINE
            self._draw.rectangle((x - 1, top - 1, x + size[0], top + size[1]), None, outline)
            lowest = max(lowest, top + size[1])
        return lowest

    def _numbers(self, numbers: NDArray[np.float32], left: int, top: int) -> int:
        assert self._largest is not None
        row, bar_left, bar_width = 22, left + 124, PANEL_WIDTH - 124 - 62
        middle = bar_left + bar_width // 2
        for index, value in enumerate(numbers.tolist()):
            y = top + index * row
            name = self.number_names[index] if index < len(self.number_names) else f"number {index}"
            self._text(left, y + row // 2, name, 13, DIM, "lm")
            self._draw.rounded_rectangle((bar_left, y + 6, bar_left + bar_width, y + 16), 3, TRACK)
            end = middle + round(value / max(float(self._largest[index]), 1e-9) * (bar_width // 2))
            self._draw.rectangle((min(middle, end), y + 6, max(middle, end), y + 16), AMBER)
            self._draw.line((middle, y + 4, middle, y + 18), DIM)
            self._text(left + PANEL_WIDTH, y + row // 2, f"{value:+.3f}", 13, TEXT, "rm")
        return top + len(numbers) * row

    def _strip(self, numbers: NDArray[np.float32], left: int, top: int) -> int:
        """One cell a number: amber above zero, blue below, brighter the larger."""
        assert self._largest is not None
        shades = np.nan_to_num(numbers / np.maximum(self._largest, 1e-9))
        columns = min(len(shades), 32)
        cell = PANEL_WIDTH / columns
        rows = min(-(-len(shades) // columns), max(1, int(130 / cell)))
        for index, shade in enumerate(shades.tolist()[: rows * columns]):
            y, x = divmod(index, columns)
            colour = tuple(
                round(a + abs(shade) * (b - a)) for a, b in zip(TRACK, AMBER if shade > 0 else BLUE, strict=True)
            )
            box = (left + x * cell, top + y * cell, left + (x + 1) * cell - 2, top + (y + 1) * cell - 2)
            self._draw.rectangle(box, colour)
        return top + round(rows * cell)

    def _values(self, moment: Moment, left: int, top: int) -> None:
        """A bar for the value of each action, in the order of the actions; the one taken stands out."""
        why = {"random": "random action", "forced": "pressed by the protocol"}.get(moment.why, "")
        self._caption(left, top, "value of each action" if moment.q_values is not None else "action", "")
        self._text(left + PANEL_WIDTH, top + 1, why, 13, AMBER, "ra")
        top += 22
        row = min(30, (self._height - MARGIN - top) // len(self.actions))
        if not isinstance(moment.action, (int, np.integer)):
            self._continuous(np.ravel(moment.action), left, top, max(row, 8))
            return
        if row < 8:  # more actions than there is room for
            self._text(left, top, f"{self.actions[moment.action]} ({len(self.actions)} actions)", 16, TEXT)
            return
        size = min(14, row - 1)
        values = None if moment.q_values is None else np.nan_to_num(moment.q_values)
        if values is not None:
            self._ranges.append((float(values.min()), float(values.max())))
        low = min((low for low, _ in self._ranges), default=0.0)
        high = max((high for _, high in self._ranges), default=0.0)
        bar_left, bar_width = left + 124, PANEL_WIDTH - 124 - 62
        for action, name in enumerate(self.actions):
            y = top + action * row
            taken = action == moment.action
            colour = (GREEN if moment.why == "greedy" else AMBER) if taken else BLUE
            pad = max(1, row // 4)
            if taken:
                self._draw.rounded_rectangle((left - 6, y, left + PANEL_WIDTH + 6, y + row - 1), 4, TRACK)
            self._text(left, y + row // 2, name, size, TEXT if taken else DIM, "lm")
            if values is None:
                continue
            # From the lowest value seen lately: what matters are differences. A stub shows that there is a bar.
            share = 0.04 + 0.96 * (float(values[action]) - low) / max(high - low, 1e-9)
            self._draw.rectangle((bar_left, y + pad, bar_left + bar_width, y + row - 1 - pad), LINE if taken else TRACK)
            self._draw.rectangle((bar_left, y + pad, bar_left + round(share * bar_width), y + row - 1 - pad), colour)
            self._text(left + PANEL_WIDTH, y + row // 2, f"{values[action]:.3f}", size, TEXT if taken else DIM, "rm")

    def _continuous(self, numbers: NDArray[np.float32], left: int, top: int, row: int) -> None:
        """A bar for each number of a continuous action, from the middle of its bounds."""
        box: Any = self.spec.action_space
        low, high = np.ravel(box.low), np.ravel(box.high)
        bar_left, bar_width = left + 124, PANEL_WIDTH - 124 - 62
        middle, size = bar_left + bar_width // 2, min(14, row - 1)
        for index, value in enumerate(np.clip(numbers, low, high).tolist()):
            y = top + index * row
            if y + row > self._height - 4:  # more numbers than there is room for
                return
            share = (value - low[index]) / max(high[index] - low[index], 1e-9)
            end = bar_left + round(share * bar_width)
            pad = max(1, row // 4)
            self._text(left, y + row // 2, self.actions[index], size, DIM, "lm")
            self._draw.rectangle((bar_left, y + pad, bar_left + bar_width, y + row - 1 - pad), TRACK)
            self._draw.rectangle((min(middle, end), y + pad, max(middle, end), y + row - 1 - pad), GREEN)
            self._text(left + PANEL_WIDTH, y + row // 2, f"{value:+.3f}", size, TEXT, "rm")


def _scaled(picture: NDArray[np.uint8]) -> Image.Image:
    """About 420 pixels high and at most 720 wide: larger by whole pixels, or smaller where it is too big."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    factor = min(GAME_HEIGHT / image.height, GAME_MAX_WIDTH / image.width)
    if factor < 1.0:
        size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
        return image.resize(size, Image.Resampling.LANCZOS)
    if not 1.5 <= factor < 2.0:  # whole multiples would leave it small
        factor = int(factor)
    return image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.NEAREST)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"
