"""A source's book of finished games: how many, and the scores and lengths of the last hundred."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

RECENT_GAMES = 100
"""Games that `rollout/score_mean` and `rollout/length_mean` average over."""


class RecentGames:
    """Counts whole games; scores are unclipped, lengths in environment steps."""

    def __init__(self) -> None:
        self.games = 0
        self.scores: deque[float] = deque(maxlen=RECENT_GAMES)
        self.lengths: deque[int] = deque(maxlen=RECENT_GAMES)

    def add(self, scores: Iterable[float], lengths: Iterable[int]) -> None:
        """Games that have just ended, in order."""
        new_scores = [float(score) for score in scores]
        self.games += len(new_scores)
        self.scores.extend(new_scores)
        self.lengths.extend(int(length) for length in lengths)

    def metrics(self) -> dict[str, float]:
        """`rollout/games`, and once a game has ended `rollout/score_mean` and `rollout/length_mean`."""
        metrics = {"rollout/games": float(self.games)}
        if self.scores:
            metrics["rollout/score_mean"] = float(np.mean(self.scores))
            metrics["rollout/length_mean"] = float(np.mean(self.lengths))
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"games": self.games, "scores": list(self.scores), "lengths": list(self.lengths)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.games = int(state["games"])
        self.scores = deque(state["scores"], RECENT_GAMES)
        self.lengths = deque(state["lengths"], RECENT_GAMES)
