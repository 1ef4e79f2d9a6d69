"""The state of a Gymnasium environment that keeps it in plain attributes, as JSON-able values and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def layers(env: Any) -> list[Any]:
    """An environment's wrappers from the outside in, and itself at the end."""
    result = [env]
    while result[-1] is not result[-1].unwrapped:
        result.append(result[-1].env)
    return result


def save_env(env: Any) -> dict[str, Any]:
    """Every plain attribute of an environment and its wrappers, and its random generator, JSON-able but for arrays."""
    found = [
        {name: _encode(value) for name, value in vars(layer).items() if name != "render_mode" and _savable(value)}
        for layer in layers(env)
    ]
    return {"layers": found, "random": env.unwrapped.np_random.bit_generator.state}


def load_env(env: Any, saved: dict[str, Any]) -> None:
    """The counterpart of `save_env`; the environment has been reset."""
    for layer, attributes in zip(layers(env), saved["layers"], strict=True):
        for name, value in attributes.items():
            # A window that is open here stays, though there was none where the state was saved.
            if _savable(vars(layer).get(name)):
                setattr(layer, name, _decode(value))
    env.unwrapped.np_random.bit_generator.state = saved["random"]


def _savable(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, (tuple, list)):
        return all(not isinstance(one, np.ndarray) and _savable(one) for one in value)
    return isinstance(value, (bool, int, float, str, np.bool_, np.number, type(None)))


def _encode(value: Any) -> Any:
    if isinstance(value, (np.bool_, np.number)):
        return {"numpy": value.dtype.str, "value": value.item()}
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": [_encode(one) for one in value]}
    return value.copy() if isinstance(value, np.ndarray) else str(value) if isinstance(value, str) else value


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value.copy() if isinstance(value, np.ndarray) else value
    if "numpy" in value:
        return np.dtype(value["numpy"]).type(value["value"])
    parts = [_decode(one) for one in (value["tuple"] if "tuple" in value else value["list"])]
    return tuple(parts) if "tuple" in value else parts
