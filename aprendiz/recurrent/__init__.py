"""Recurrent networks that any family can build on: features [T, B, D] and a state in, features and a state out."""

from __future__ import annotations

from aprendiz.recurrent.network import Recurrent, State, detached, kept

__all__ = ["Recurrent", "State", "detached", "kept"]
