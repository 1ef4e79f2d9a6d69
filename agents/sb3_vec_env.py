"""Our environments as Stable-Baselines3 sees them: a VecEnv over `envs.Env`.

What differs between the two worlds is translated here, so that an agent of theirs learns from what ours learn from:

- A step that ends a game already shows the next one; the last observation goes into `terminal_observation`, and a game
  that the time limit ended says so in `TimeLimit.truncated`, so that its value is still bootstrapped.
- A lost life is a `done` without a terminal observation: nothing is valued beyond it, and the game goes on.
- Rewards are clipped to [-1, 1] where asked for; scores are never clipped.
- An action that the protocol forces (FIRE after a lost life) is what is pressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.recent_games import RecentGames
from envs.core import Env


class SpacesVecEnv(VecEnv):
    """Spaces alone: enough to make a model, before there are games to play."""

    def __init__(self, num_envs: int, observation_space: Space, action_space: Space) -> None:
        super().__init__(num_envs, observation_space, action_space)

    def reset(self) -> Any:
        raise NotImplementedError("there are no games here")

    def step_async(self, actions: NDArray[Any]) -> None:
        raise NotImplementedError("there are no games here")

    def step_wait(self) -> Any:
        raise NotImplementedError("there are no games here")

    def close(self) -> None:
        """Games belong to whoever made them."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        return [None] * self.num_envs


class GameVecEnv(SpacesVecEnv):
    """N games of an `envs.Env`.

    Args:
        seed: of the games, at the first reset.
        clip_rewards: hand out rewards clipped to [-1, 1] (Mnih et al. 2015).
        life_loss_ends_value: a lost life is `done`.
        stores_forced_actions: write a forced action over the one that was chosen, in the library's own array, so that
            it is remembered as the action taken. Right for learning from any behaviour (DQN); a learner of its own
            behaviour (PPO) must keep what it chose, with the probability that belongs to it: to it a step in which
            something else is pressed is a whim of the environment.
    """

    def __init__(
        self,
        games: Env,
        action_space: Space,
        *,
        seed: int,
        clip_rewards: bool,
        life_loss_ends_value: bool,
        stores_forced_actions: bool,
    ) -> None:
        self.games, self.first_seed = games, seed
        self.clip_rewards, self.life_loss_ends_value = clip_rewards, life_loss_ends_value
        self.stores_forced_actions = stores_forced_actions
        self.recent = RecentGames()
        super().__init__(games.num_envs, games.spec.observation_space, action_space)

    def reset(self) -> NDArray[Any]:
        """First observations [N, ...]."""
        return self.games.reset(self.first_seed)

    def step_async(self, actions: NDArray[Any]) -> None:
        forced = self.games.forced_action
        pressed = forced >= 0
        if pressed.any():
            if not self.stores_forced_actions:
                actions = actions.copy()
            actions[pressed] = forced[pressed]
        self.games.send(actions)

    def step_wait(self) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Observations [N, ...], rewards float32 [N], dones bool [N], and a dict for each game."""
        step = self.games.recv()
        ended = step.ended
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for lane in np.flatnonzero(ended):
            infos[lane] = {
                "terminal_observation": np.asarray(step.final_observation[lane]),
                "TimeLimit.truncated": bool(step.truncated[lane]),
            }
        if ended.any():
            self.recent.add(step.score[ended], step.length[ended])
        dones = ended | step.life_lost if self.life_loss_ends_value else ended
        return step.observation, step.learned_reward(self.clip_rewards), dones, infos
