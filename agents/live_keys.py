"""The keyboard as a game's controller: which action the keys that are held mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.picture import action_names

if TYPE_CHECKING:
    from envs.core import EnvSpec

BUTTONS = {
    "ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "up", "ArrowDown": "down",
    "a": "left", "d": "right", "w": "up", "s": "down", " ": "fire", "Enter": "second",
}  # fmt: skip
"""Keys, by the names that browsers give them, and the buttons of a controller."""
_LABELS = {"left": "←", "right": "→", "up": "↑", "down": "↓", "fire": "space", "second": "enter"}
_WORDS = {
    "west": "left", "east": "right", "north": "up", "south": "down", "-1": "left", "+1": "right", "main": "up",
    "forward": "up", "attack": "fire", "hit": "fire", "pickup": "fire", "stick": "second",
    "drop": "second", "toggle": "second",
}  # fmt: skip
"""Words of action names that mean a button beside the buttons' own names."""
_PHRASES = {"pick up": "pickup", "drop off": "drop"}
_NOTHING = {"noop", "none", "torque 0"}
_OPPOSITES = (("left", "right"), ("up", "down"))


class Controller:
    """Turns held keys into an action of one environment."""

    def __init__(self, spec: EnvSpec) -> None:
        self.names = action_names(spec)
        self.nothing: int | None = None
        """The action that does nothing, where there is one."""
        self._box: Any = spec.action_space if spec.continuous else None
        self._buttons: dict[frozenset[str], int] = {}
        for action, name in enumerate(self.names):
            if self._box is None:
                buttons = _buttons_of(name)
                if name in _NOTHING and self.nothing is None:
                    self.nothing = action
                elif buttons:
                    self._buttons.setdefault(buttons, action)

    def help(self) -> list[tuple[str, str]]:
        """Pairs of what to press and what it does."""
        if self._box is not None:
            return [("← →", self.names[0]), *([("↑ ↓", self.names[1])] if len(self.names) > 1 else [])]
        by_action = {action: buttons for buttons, action in self._buttons.items()}
        rows = []
        for action, name in enumerate(self.names):
            labels = [_LABELS[button] for button in _LABELS if button in by_action.get(action, ())]
            if action < 10:
                labels = [" ".join(labels), str((action + 1) % 10)] if labels else [str((action + 1) % 10)]
            if labels:
                rows.append((" or ".join(labels), name))
        return rows

    def action(self, keys: Iterable[str]) -> int | NDArray[np.float32] | None:
        """What the held keys mean; None where nothing is pressed and every action does something, so that the game must
        wait. A digit is the action of that number, from 1; 0 is the tenth."""
        held = set(keys)
        if self._box is not None:
            return self._continuous(_held_buttons(held))
        digits = [(int(key) - 1) % 10 for key in held if len(key) == 1 and key in "0123456789"]
        for action in sorted(digits):
            if action < len(self.names):
                return action
        buttons = _held_buttons(held)
        fitting = [(len(wanted), -action) for wanted, action in self._buttons.items() if wanted <= buttons]
        return -max(fitting)[1] if fitting else self.nothing

    def _continuous(self, buttons: frozenset[str]) -> NDArray[np.float32] | None:
        """The bounds of the first number by left and right, of the second by down and up; the middle of the others."""
        box = self._box
        low, high = np.ravel(box.low), np.ravel(box.high)
        chosen = 0.5 * (low + high)
        for index, (least, most) in enumerate((("left", "right"), ("down", "up"))):
            if index < len(chosen):
                chosen[index] = low[index] if least in buttons else high[index] if most in buttons else chosen[index]
        return chosen.astype(np.float32).reshape(box.shape)


def _held_buttons(keys: set[str]) -> frozenset[str]:
    """Buttons of held keys; opposite ones let each other go."""
    buttons = {BUTTONS[key] for key in keys if key in BUTTONS}
    for pair in _OPPOSITES:
        if buttons.issuperset(pair):
            buttons.difference_update(pair)
    return frozenset(buttons)


def _buttons_of(name: str) -> frozenset[str]:
    known = set(BUTTONS.values())
    name = _PHRASES.get(name, name)
    words = (_WORDS.get(word, word) for word in re.split(r"[^a-z0-9+-]+|(?<=[a-z])-(?=[a-z])", name.lower()))
    return frozenset(word for word in words if word in known)
