"""What the whole DQN line shares: networks, target network, optimiser, replay, exploration, the update.

An agent of the line is a `ValueKind` (what its network's outputs mean, and their loss) and a Config; every other
improvement is a flag of `ValueConfig`. One update:

    what follows   following(s') = the distribution of one action, the greatest by the target network's own value
                   (DQN) or by the online network's (double), or of the soft policy's mixture (Munchausen)
    loss           mean over the batch of w * loss(outputs(s, a), r + discount * following(s'))

w are importance weights where replay is prioritised. Replay sums n rewards and gives the discount that belongs to them,
0 where the game is over or a life was lost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.acting import ActingSource
from agents.core import Agent, Player, Purpose, derived_seed, epsilon_greedy, follow_learning_rate, linear_exploration
from agents.value_config import (
    Presets,
    for_quick_tasks,
    is_quick,
    resolved,
    with_rewards_of,
    without_image_options,
)
from agents.value_kind import ValueKind
from agents.value_network import QNetwork, wants_dense_layers
from agents.value_player import ValuePlayer
from agents.value_targets import double_q_value, expected_under, munchausen_bonus, of_action, soft_entropy, soft_policy
from aprendiz.device import CapturedStep, autocast, learning_leaves_cores, replay_storage
from aprendiz.errors import ConfigError
from aprendiz.impala import spectral_layers
from aprendiz.loop import Outcome, crossed
from aprendiz.optim import adam, linear_schedule, load_optimizer_state, rmsprop, schedulable
from aprendiz.replay import Batch, Replay
from aprendiz.seeds import global_seed
from envs.core import Env, EnvSpec


class ValueAgent(Agent):
    """Base of the DQN line. A subclass names its `Config`, its `kind` and its `preset_table`."""

    precisions = ("fp32", "bf16")
    kind: ClassVar[type[ValueKind]]
    preset_table: ClassVar[Presets]

    def __init__(
        self,
        config: Any,
        observation_space: Space,
        action_space: Space,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        if not isinstance(action_space, Discrete):
            raise ConfigError(f"{type(self).__name__} chooses among Discrete actions, not {action_space}")
        self.config, self.device, self.precision = config, torch.device(device), precision
        self.actions = int(action_space.n)
        self.value = self.kind(config, self.device)
        with global_seed(derived_seed(seed, Purpose.NETWORK), self.device):
            self.online = self._network(observation_space)
            self.target = self._network(observation_space)
        self.target.load_state_dict(self.online.state_dict())
        self.target.requires_grad_(False)
        parameters = list(self.online.parameters())
        if config.optimizer == "adam":
            self.optimizer = adam(parameters, config.learning_rate, config.optimizer_epsilon, self.device)
        else:
            self.optimizer = rmsprop(parameters, config.learning_rate, 0.95, config.optimizer_epsilon, self.device)
        if config.learning_rate_end is not None:
            schedulable(self.optimizer, self.device)
        self._spectral = spectral_layers(self.online)
        # A frozen network needs its weights in the narrow format only once a copy, not once a batch.
        self._narrow_target: QNetwork | None = None
        if precision == "bf16" and self.device.type == "cpu" and not self._spectral:
            self._narrow_target = copy.deepcopy(self.target).narrow()
        self.noise_size = self.online.noise_size
        self._generator: np.random.Generator | None = None
        """Of noise and quantiles in updates, where there are any."""
        if self.noise_size or self.value.cosines:
            self._generator = np.random.default_rng([seed, Purpose.NETWORK])
        self._env_steps = 0
        self._captured: CapturedStep | None = None

    def _network(self, observation_space: Space) -> QNetwork:
        config = self.config
        return QNetwork(
            config.backbone,
            observation_space,
            self.actions,
            outputs=self.value.outputs,
            dueling=config.dueling,
            noisy_sigma=config.noisy_sigma if config.noisy else None,
            cosines=self.value.cosines,
            trunk_gradient_scale=config.trunk_gradient_scale,
            options=config.backbone_options(),
        ).to(self.device)

    @classmethod
    def presets(cls, spec: EnvSpec) -> dict[str, Any]:
        named = with_rewards_of(spec, dict(cls.preset_table[spec.observation_kind]))
        if is_quick(spec):
            named["default"] = cls.for_quick_tasks(named["default"])
        if wants_dense_layers(spec):
            return {name: without_image_options(config) for name, config in named.items()}
        return named

    @classmethod
    def for_quick_tasks(cls, config: Any) -> Any:
        """The preset `default` as it is for pictures of tasks that are learned within minutes."""
        return for_quick_tasks(config)

    @classmethod
    def resolve(cls, config: Any, budget_env_steps: int) -> Any:
        return resolved(config, budget_env_steps)

    # ---------------------------------------------------------------- acting

    def make_source(self, env: Env, *, seed: int) -> ActingSource:
        config, spec = self.config, env.spec
        space = spec.observation_space
        shape, dtype = space.shape or (), space.dtype
        needed = Replay.bytes_needed(
            config.replay_capacity, env.num_envs, shape, dtype, spec.frame_stack, config.n_step
        )
        replay = Replay(
            config.replay_capacity,
            env.num_envs,
            shape,
            dtype,
            frame_stack=spec.frame_stack,
            discount=config.discount,
            n_step=config.n_step,
            device=self.device,
            storage=replay_storage(self.device, needed),
            priority_exponent=config.priority_exponent if config.prioritized else None,
        )
        assert config.warmup_env_steps is not None, "resolve() comes first"
        return ActingSource(
            self,
            env,
            replay,
            seed=seed,
            batch_size=config.batch_size,
            warmup_env_steps=max(config.warmup_env_steps, config.n_step * env.num_envs),
            train_period_env_steps=config.train_period_env_steps,
            clip_rewards=config.clip_rewards,
            reward_scale=config.reward_scale,
            life_loss_ends_value=config.life_loss_ends_value,
            overlap=learning_leaves_cores(self.device),
            importance_exponent=self.importance_exponent if config.prioritized else None,
        )

    def exploration(self, env_steps: int) -> float:
        config = self.config
        if config.exploration_off_env_steps is not None and env_steps >= config.exploration_off_env_steps:
            return 0.0
        return linear_exploration(config, env_steps)

    def importance_exponent(self, env_steps: int) -> float:
        """beta of prioritised replay after so many environment steps."""
        config = self.config
        assert config.importance_env_steps is not None, "resolve() comes first"
        return linear_schedule(config.importance_start, config.importance_end, config.importance_env_steps, env_steps)

    def act(self, observations: NDArray[Any], explore: float, generator: np.random.Generator) -> NDArray[np.int64]:
        """Actions int64 [N] for observations [N, ...]. Noisy layers act by their means."""

        def greedy() -> NDArray[np.int64]:
            return self.greedy(self.distribution(observations))

        return epsilon_greedy(greedy, len(observations), self.actions, explore, generator)

    def act_in_training(
        self, observations: NDArray[Any], env_steps: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """As `act`, with noise of its own for each environment where layers are noisy."""
        if not self.noise_size:
            return self.act(observations, self.exploration(env_steps), generator)
        noise = generator.standard_normal((len(observations), self.noise_size), dtype=np.float32)

        def greedy() -> NDArray[np.int64]:
            return self.greedy(self.distribution(observations, noise))

        return epsilon_greedy(greedy, len(observations), self.actions, self.exploration(env_steps), generator)

    def inspect(self, observations: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """`q_values` [N, A]; of a distribution also `distribution` [N, A, Z, 2], Z values and their probabilities."""
        return self.thought(self.distribution(observations))

    def thought(self, found: Tensor) -> dict[str, NDArray[np.float32]]:
        """What `inspect` says, of what `distribution` gave."""
        picture = self.value.picture(found)
        thought = {"q_values": self.value.q_values(found).cpu().numpy()}
        return thought if picture is None else thought | {"distribution": picture.cpu().numpy()}

    def player(self, count: int) -> Player:
        """Looks into the network with no second pass; as every agent's, where a subclass acts in its own way."""
        return ValuePlayer(self) if type(self).act is ValueAgent.act else Player(self)

    def differentiable_values(self, observations: Tensor) -> Tensor:
        outputs = self.online(observations, None, self._middles(observations)).float()
        return self.value.q_values(self.value.distribution(outputs))

    def _middles(self, observations: NDArray[Any] | Tensor) -> Tensor | None:
        """taus [N, K] of implicit quantiles: the middle of each share, so that what is thought is no matter of
        chance."""
        quantiles = self.value.taus[2]
        if not quantiles:
            return None
        return ((torch.arange(quantiles, device=self.device) + 0.5) / quantiles).expand(len(observations), -1)

    def greedy(self, found: Tensor) -> NDArray[np.int64]:
        """Greedy actions [N], of what `distribution` gave."""
        return self.value.q_values(found).argmax(dim=1).cpu().numpy()

    @torch.no_grad()
    def distribution(self, observations: NDArray[Any], noise: NDArray[np.float32] | None = None) -> Tensor:
        """What the network says of observations [N, ...], as `ValueKind.distribution`."""
        taus = self._middles(observations)
        with autocast(self.device, self.precision):
            shown = torch.from_numpy(observations).to(self.device)
            drawn = None if noise is None else torch.from_numpy(noise).to(self.device)
            return self.value.distribution(self.online(shown, drawn, taus).float())

    # ---------------------------------------------------------------- learning

    def update(self, batch: Batch) -> Outcome:
        """One gradient step on a batch of B transitions. Metrics: `loss`, mean value and mean target; with prioritised
        replay `td_error` [B] for each transition."""
        inputs = {
            "observation": batch.observation,
            "action": batch.action,
            "reward": batch.reward,
            "discount": batch.discount,
            "next_observation": batch.next_observation,
        }
        if batch.weights is not None:
            inputs["weights"] = batch.weights
        if self._generator is not None:
            inputs |= self._draw(len(batch.action), self._generator)
        config = self.config
        follow_learning_rate(self.optimizer, config, batch.env_steps)
        if self.device.type == "cuda":
            if self._captured is None:
                self._captured = CapturedStep(self._gradient_step, inputs, self._tensors)
            found = self._captured(inputs)
        else:
            found = self._gradient_step(inputs)
        if crossed(self._env_steps, batch.env_steps, config.target_period_env_steps):
            self._copy_to_target()
        self._env_steps = batch.env_steps
        if "td_error" in found:
            return Outcome(found, {"td_error": found.pop("td_error")})
        return Outcome(found)

    def _draw(self, batch_size: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """What is random in an update, from outside, so that a captured one can be given it."""
        drawn: dict[str, NDArray[np.float32]] = {}
        if self.noise_size:  # of the online network, of the target network, and for choosing the next action
            drawn["noise"] = generator.standard_normal((3, self.noise_size), dtype=np.float32)
        for name, count in zip(("taus", "next_taus", "policy_taus"), self.value.taus, strict=True):
            if count:
                drawn[name] = generator.random((batch_size, count), dtype=np.float32)
        return {name: torch.from_numpy(numbers).to(self.device) for name, numbers in drawn.items()}

    def _gradient_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        for layer in self._spectral:
            layer.iterate()
        noise, taus = batch.get("noise"), batch.get("taus")
        with autocast(self.device, self.precision):
            with torch.no_grad():
                reward, following = self._what_follows(batch)
            of_online = None if noise is None else noise[0]
            outputs = self.online(batch["observation"], of_online, taus).float()  # [B, A] or [B, A, Z]
        chosen = of_action(outputs, batch["action"])  # [B] or [B, Z]
        found = self.value.loss(chosen, reward, batch["discount"], following, taus)
        weights = batch.get("weights")
        loss = found.per_sample.mean() if weights is None else (weights * found.per_sample).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.online.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        with torch.no_grad():
            q_values = self.value.q_values(self.value.distribution(outputs))
            metrics = {"loss": loss.detach(), "q_mean": q_values.mean(), "target_mean": found.target_mean}
        return metrics if found.td_error is None else metrics | {"td_error": found.td_error}

    def _what_follows(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Reward [B], to which a soft policy adds its bonus and its entropy, and the distribution [B] or [B, Z] of what
        follows it."""
        config, reward = self.config, batch["reward"]
        network = self._narrow_target or self.target
        noise = batch.get("noise")
        of_target, of_choice = (None, None) if noise is None else (noise[1], noise[2])
        q_values, distribution = self._judge(
            network, batch["next_observation"], of_target, batch, values=not config.double
        )
        if config.munchausen:
            policy, log_policy = soft_policy(q_values, config.munchausen_temperature)
            now, _ = self._judge(network, batch["observation"], of_target, batch, distribution=False)
            _, log_policy_now = soft_policy(now, config.munchausen_temperature)
            scale, lowest = config.munchausen_scale, config.munchausen_lowest
            bonus = munchausen_bonus(log_policy_now, batch["action"], scale, lowest)
            # Entropy shifts all that follows alike, and so does a reward.
            reward = reward + bonus + batch["discount"] * soft_entropy(policy, log_policy)
            return reward, expected_under(policy, distribution)
        if config.double:
            chooser, _ = self._judge(self.online, batch["next_observation"], of_choice, batch, distribution=False)
            if distribution.ndim == 2:
                return reward, double_q_value(chooser, distribution)
            return reward, of_action(distribution, chooser.argmax(dim=1))
        if distribution.ndim == 2:
            return reward, distribution.max(dim=1).values
        return reward, of_action(distribution, q_values.argmax(dim=1))

    def _judge(
        self,
        network: QNetwork,
        observation: Tensor,
        noise: Tensor | None,
        batch: dict[str, Tensor],
        *,
        values: bool = True,
        distribution: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Values [B, A], and the distribution [B, A] or [B, A, Z] to learn from. Implicit quantiles are drawn for each
        of the two: without `values`, or without `distribution`, that one is as the other."""
        if not self.value.cosines:
            found = self.value.distribution(network(observation, noise).float())
            return self.value.q_values(found), found
        features = network.backbone(observation)

        def drawn(taus: str) -> Tensor:
            return network.values(features, noise, batch[taus]).float()

        judged = drawn("policy_taus" if values else "next_taus")
        return self.value.q_values(judged), drawn("next_taus") if values and distribution else judged

    @torch.no_grad()
    def _copy_to_target(self) -> None:
        torch._foreach_copy_(list(self.target.state_dict().values()), list(self.online.state_dict().values()))
        self._narrow()

    @torch.no_grad()
    def _narrow(self) -> None:
        if self._narrow_target is not None:
            torch._foreach_copy_(
                list(self._narrow_target.state_dict().values()), list(self.target.state_dict().values())
            )

    # ---------------------------------------------------------------- saving

    def _tensors(self) -> list[Tensor]:
        moments = [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        return [*self.online.state_dict().values(), *self.target.state_dict().values(), *moments]

    def modules(self) -> dict[str, nn.Module]:
        return {"online": self.online, "target": self.target}

    def state_dict(self) -> dict[str, Any]:
        state = {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "env_steps": self._env_steps,
        }
        return state if self._generator is None else state | {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self._env_steps = state["env_steps"]
        if self._generator is not None:
            self._generator.bit_generator.state = state["generator"]
        self._narrow()
        self._captured = None  # the optimiser's tensors are new ones
