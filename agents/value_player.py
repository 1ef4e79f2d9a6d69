"""Playing with an agent of the DQN line: what its network says of an observation is asked once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.core import Player

if TYPE_CHECKING:
    from torch import Tensor


class DistributionAgent(Protocol):
    """What the player needs of an agent, beside what every agent has."""

    def distribution(self, observations: NDArray[Any]) -> Tensor:
        """What its network says of observations [N, ...]."""
        ...

    def greedy(self, found: Tensor) -> NDArray[np.int64]:
        """Greedy actions [N], of what `distribution` gave."""
        ...

    def thought(self, found: Tensor) -> dict[str, NDArray[np.float32]]:
        """As `Agent.inspect`, of what `distribution` gave."""
        ...


class ValuePlayer(Player):
    """Plays N games; to look into the network then costs no second pass through it."""

    def __init__(self, agent: Any) -> None:
        super().__init__(agent)
        self._network: DistributionAgent = agent
        self._found: Tensor | None = None
        """Of all the games that are played, where all of them were asked."""

    def act(self, observations: NDArray[Any], ask: NDArray[np.int64]) -> NDArray[np.int64]:
        self._found = None
        if not len(ask):
            return np.empty(0, np.int64)
        found = self._network.distribution(observations[ask])
        if len(ask) == len(observations):
            self._found = found
        return self._network.greedy(found)

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        return self.agent.inspect(observations) if self._found is None else self._network.thought(self._found)
