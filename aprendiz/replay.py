"""Experience replay (Lin 1992; Mnih et al. 2015) that holds every frame once.

An Atari observation is a stack of four frames, and the next observation shares three of them: storing both as they
come takes 56 kB a transition, storing each frame once takes 7 kB. The memory is a ring per environment ("lane"). A slot
holds the newest frame of an observation and, once the action has been taken, the action, its reward and what ended:

    slot       ... p-1        p          p+1        p+2 ...
    frame          newest     newest     newest     newest frame of the observation
    action         a          a          -          a           "-": the last observation of a game, nothing was done
    age            k          k+1        k+2        0           steps since the game began

Stacks are rebuilt when sampling: frames before the game's first observation are zero, as the environment pads them.
A transition whose stack or n-step window would cross the write head is never sampled. Losses see `reward`, `discount`
and `next_observation` only: the discount is 0 where the game was over or a life was lost, otherwise gamma to the number
of steps actually summed, so that a time limit bootstraps and needs no flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aprendiz.errors import ConfigError
from aprendiz.replay_frames import gather_pairs, gather_stacks
from aprendiz.replay_kernels import ACTED, NO_BOOTSTRAP, SEQUENCE_END, bounds, locate, sum_windows
from aprendiz.replay_priorities import Priorities, importance_weights
from aprendiz.replay_store import SegmentStore

SPARE_FRACTION = 0.01
"""Room for the last observations of games, as a fraction of the capacity (games last 100 steps or more on Atari)."""
ACTION_DTYPE = np.int16
MOST_ACTIONS = int(np.iinfo(ACTION_DTYPE).max) + 1
"""Actions of an environment whose numbers can be remembered."""


@dataclass(slots=True)
class Batch:
    """B transitions, on the learner's device."""

    observation: Tensor
    """[B, ...], in the environment's dtype (uint8 images are scaled by the network, once)."""
    action: Tensor
    """int64 [B]"""
    reward: Tensor
    """float32 [B]: sum of gamma^k r_k over the steps of the window."""
    discount: Tensor
    """float32 [B]: factor of the value of `next_observation`."""
    next_observation: Tensor
    """[B, ...]"""
    env_steps: int = 0
    """Environment steps taken when the batch was made: the clock for periods counted in environment steps."""
    indices: NDArray[np.int64] | None = None
    """int64 [B, 2]: lane and position, for whoever keeps priorities."""
    weights: Tensor | None = None
    """float32 [B]: importance weights, at most 1, where the draw was prioritised."""

    @staticmethod
    def random(
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
        actions: int,
        batch_size: int,
        device: torch.device,
        generator: np.random.Generator,
    ) -> Batch:
        """A batch of noise, for timing an update before there is any experience."""

        def observations() -> Tensor:
            shape = (batch_size, *observation_shape)
            if np.issubdtype(observation_dtype, np.integer):
                return torch.from_numpy(generator.integers(0, 2, shape, dtype=observation_dtype)).to(device)
            return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)).to(device)

        return Batch(
            observation=observations(),
            action=torch.from_numpy(generator.integers(0, actions, batch_size)).to(device),
            reward=torch.zeros(batch_size, device=device),
            discount=torch.full((batch_size,), 0.99, device=device),
            next_observation=observations(),
        )


class Replay:
    """Uniform or prioritised replay over the last `capacity` transitions of N environments.

    Args:
        capacity: transitions held, over all lanes.
        num_envs: N, the number of lanes.
        observation_shape, observation_dtype: of one observation; with a frame stack its first axis is the stack, the
            newest frame last.
        frame_stack: how many frames an observation is made of; 1 stores observations whole.
        discount: gamma.
        n_step: length of the window summed into one transition.
        storage: where frames are held; batches are delivered on `device`.
        priority_exponent: alpha of prioritised replay (Schaul et al. 2016); None draws uniformly.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
        *,
        frame_stack: int = 1,
        discount: float = 0.99,
        n_step: int = 1,
        device: torch.device | str = "cpu",
        storage: torch.device | str = "cpu",
        priority_exponent: float | None = None,
    ) -> None:
        if capacity < num_envs:
            raise ConfigError(f"replay capacity {capacity} is smaller than the number of environments, {num_envs}")
        self.capacity, self.num_envs, self.frame_stack = capacity, num_envs, frame_stack
        self.discount, self.n_step = discount, n_step
        self.device, self.storage = torch.device(device), torch.device(storage)
        self.observation_shape = tuple(observation_shape)
        self.frame_shape = self.observation_shape[1:] if frame_stack > 1 else self.observation_shape
        if frame_stack > 1 and self.observation_shape[0] != frame_stack:
            raise ConfigError(f"observations {self.observation_shape} are not a stack of {frame_stack} frames")
        self.slots = self.slots_per_lane(capacity, num_envs, frame_stack, n_step)
        torch_dtype = torch.from_numpy(np.empty(0, observation_dtype)).dtype
        # Untouched memory costs nothing: pages are taken by the operating system when they are first written.
        shape = (num_envs * self.slots, *self.frame_shape)
        if self.storage.type == "cpu":
            # NumPy asks Linux for pages of 2 MB, PyTorch for none: out of gigabytes the processor finds few of 4 kB.
            self.frames = torch.from_numpy(np.empty(shape, observation_dtype))
        else:
            self.frames = torch.empty(shape, dtype=torch_dtype, device=self.storage)
        self._pixels: NDArray[np.uint8] | None = None
        """The frames as [slots, pixels], where stacks of pictures are gathered on the CPU."""
        if frame_stack > 1 and torch_dtype == torch.uint8 and self.storage.type == "cpu" and len(self.frame_shape) == 2:
            self._pixels = self.frames.flatten(1).numpy()
        self.action = np.zeros((num_envs, self.slots), ACTION_DTYPE)
        self.reward = np.zeros((num_envs, self.slots), np.float32)
        self.flags = np.zeros((num_envs, self.slots), np.uint8)
        self.age = np.zeros((num_envs, self.slots), np.uint8)
        self.head = np.zeros(num_envs, np.int64)
        """Position (counted from the start, never wrapped) of each lane's current observation."""
        self.priorities = None if priority_exponent is None else Priorities(self, priority_exponent)
        self._lanes = np.arange(num_envs)
        self._started = False
        self.loaded = False
        """Whether the content was read from disk, so that `load_state_dict` can go on from it."""
        self._store: SegmentStore | None = None

    @staticmethod
    def slots_per_lane(capacity: int, num_envs: int, frame_stack: int, n_step: int) -> int:
        return -(-int(capacity * (1 + SPARE_FRACTION)) // num_envs) + frame_stack + n_step + 2

    @classmethod
    def bytes_needed(
        cls,
        capacity: int,
        num_envs: int,
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
        frame_stack: int,
        n_step: int = 1,
    ) -> int:
        """Memory of a full replay, in bytes; priorities take 9 more a slot."""
        frame_shape = observation_shape[1:] if frame_stack > 1 else observation_shape
        frame = int(np.prod(frame_shape, dtype=np.int64)) * np.dtype(observation_dtype).itemsize
        return cls.slots_per_lane(capacity, num_envs, frame_stack, n_step) * num_envs * (frame + 2 + 4 + 1 + 1)

    def __len__(self) -> int:
        """Slots in use (transitions, and the last observations of games)."""
        return int(np.minimum(self.head, self.slots - 1).sum())

    # ---------------------------------------------------------------- writing

    def start(self, observation: NDArray[Any]) -> None:
        """The first observations [N, ...] of a game in every lane."""
        self._put(self._lanes, observation, np.zeros(self.num_envs, np.uint8))
        self._started = True

    def add(
        self,
        action: NDArray[np.int64],
        reward: NDArray[np.float32],
        no_bootstrap: NDArray[np.bool_],
        ended: NDArray[np.bool_],
        observation: NDArray[Any],
        final_observation: NDArray[Any],
    ) -> None:
        """One step of every lane.

        Args:
            action: int [N], taken at the current observation; reward: [N], as the learner is to see it.
            no_bootstrap: bool [N], where nothing of value follows (game over, life lost).
            ended: bool [N], where the game ended (over, or cut off by a time limit): `final_observation` is what the
                action led to, and `observation` begins a new game. Elsewhere `observation` is what it led to.
        """
        slot = self.head % self.slots
        lanes = self._lanes
        self.action[lanes, slot] = action
        self.reward[lanes, slot] = reward
        self.flags[lanes, slot] = ACTED | NO_BOOTSTRAP * no_bootstrap | SEQUENCE_END * ended
        age = self.age[lanes, slot]
        age += age < 255
        before = self.head.copy()
        self.head += 1
        if ended.any():
            done = np.flatnonzero(ended)
            self._put(done, final_observation[done], age[done])
            self.head[done] += 1
            age[done] = 0
        self._put(lanes, observation, age)
        if self.priorities is not None:
            self.priorities.advance(before, self.head, self.flags)

    def cut(self, observation: NDArray[Any]) -> None:
        """The games in progress will not go on (their environments were restarted): their last transitions lead to what
        is now the current observation, and a new game begins with `observation` [N, ...]."""
        if not self._started:
            return self.start(observation)
        last = (self.head - 1) % self.slots
        has_last = (self.head > 0) & ((self.flags[self._lanes, last] & (ACTED | SEQUENCE_END)) == ACTED)
        self.flags[self._lanes[has_last], last[has_last]] |= SEQUENCE_END
        if self._store is not None:  # a slot that may lie on disk already has changed
            self._store.write_again(self._lanes[has_last], self.head[has_last] - 1)
        # Where the current observation is the first of its game nothing has been done yet: it is simply replaced.
        before = self.head.copy()
        self.head[has_last] += 1
        self._put(self._lanes, observation, np.zeros(self.num_envs, np.uint8))
        if self.priorities is not None:
            self.priorities.advance(before, self.head, self.flags)

    def _put(self, lanes: NDArray[np.int64], observation: NDArray[Any], age: NDArray[np.uint8]) -> None:
        slot = self.head[lanes] % self.slots
        newest = observation[:, -1] if self.frame_stack > 1 else observation
        rows = torch.from_numpy(lanes * self.slots + slot)
        self.frames[rows.to(self.storage)] = torch.from_numpy(np.ascontiguousarray(newest)).to(self.storage)
        self.flags[lanes, slot] = 0
        self.age[lanes, slot] = age

    # ---------------------------------------------------------------- sampling

    def oldest(self) -> NDArray[np.int64]:
        """Position [N] of the oldest slot that still holds what was written there."""
        return np.maximum(self.head - self.slots + 1, 0)

    def sample(self, batch_size: int, generator: np.random.Generator, *, importance_exponent: float = 0.0) -> Batch:
        """B transitions out of all that are whole: uniformly with replacement, or by priority, then with weights to the
        power of `importance_exponent` (the paper's beta). Raises ConfigError when there are none."""
        weights: Tensor | None = None
        if self.priorities is None:
            drawn = self._draw(batch_size, generator)
        else:
            drawn, values = self.priorities.draw(batch_size, generator, self.head)
            weights = self._on_device(importance_weights(values, importance_exponent))
        lane, position = drawn[0], drawn[1]
        reward, discount, steps, action = self._window(lane, position)
        stack = self.frame_stack
        if self._pixels is not None and stack == 4:
            observation, next_observation = self._gather_pairs(self._pixels, lane, position, steps)
        elif self._pixels is not None:
            observation = self._gather_stacks(lane, position)
            next_observation = self._gather_stacks(lane, position + steps)
        elif self.n_step == 1 and stack > 1:
            # One gather serves both: the next observation is the same stack moved on by one frame.
            frames = self._gather(lane, position, np.arange(-stack + 1, 2))  # [B, stack + 1, ...]
            observation, next_observation = frames[:, :-1], frames[:, 1:]
        else:
            window = np.arange(-stack + 1, 1)
            observation, next_observation = (self._gather(lane, at, window) for at in (position, position + steps))
            if stack == 1:
                observation, next_observation = observation[:, 0], next_observation[:, 0]
        return Batch(
            observation=observation,
            action=self._on_device(action),
            reward=self._on_device(reward),
            discount=self._on_device(discount),
            next_observation=next_observation,
            indices=drawn.T,
            weights=weights,
        )

    def update_priorities(self, indices: NDArray[np.int64], priorities: NDArray[Any]) -> None:
        """New priorities [B] (absolute TD errors, or losses) of what `Batch.indices` [B, 2] names; where one comes
        twice the last counts. What has been overwritten since is left out. Does nothing where the draw is uniform."""
        if self.priorities is not None:
            self.priorities.update(indices[:, 0], indices[:, 1], priorities, self.head)

    def _draw(self, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Lanes and positions int64 [2, B]."""
        oldest, ends = np.empty(self.num_envs, np.int64), np.empty(self.num_envs, np.int64)
        total = bounds(self.head, self.slots, oldest, ends)
        found: list[NDArray[np.int64]] = []
        missing = batch_size
        for _ in range(1000):
            if total == 0:
                break
            flat = generator.integers(0, total, missing + missing // 16 + 1)
            drawn = np.empty((2, len(flat)), np.int64)
            count = locate(flat, ends, self.head, oldest, self.flags, self.age, self.frame_stack, self.n_step, drawn)
            found.append(drawn[:, : min(count, missing)])
            missing -= count
            if missing <= 0:
                return found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        raise ConfigError("the replay memory holds no whole transition to sample yet")

    def _window(
        self, lane: NDArray[np.int64], position: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Sum of discounted rewards, discount of what follows, steps actually summed and action taken, each [B]."""
        count = len(lane)
        reward, discount = np.empty(count, np.float32), np.empty(count, np.float32)
        steps, action = np.empty(count, np.int64), np.empty(count, np.int64)
        sum_windows(
            lane, position, self.reward, self.flags, self.action, self.discount, self.n_step, reward, discount, steps,
            action,
        )  # fmt: skip
        return reward, discount, steps, action

    def _gather(self, lane: NDArray[np.int64], position: NDArray[np.int64], window: NDArray[np.int64]) -> Tensor:
        """Frames [B, len(window), ...] at position + window; zero before the game's first observation."""
        at = position[:, None] + window  # [B, W]
        rows = torch.from_numpy(lane[:, None] * self.slots + at % self.slots)
        frames = self.frames.index_select(0, rows.flatten().to(self.storage))
        frames = frames.unflatten(0, at.shape)  # [B, W, ...]
        before = window < -self.age[lane, position % self.slots].astype(np.int64)[:, None]  # bool [B, W]
        if before.any():
            frames[torch.from_numpy(before).to(self.storage)] = 0
        return frames.to(self.device)

    def _gather_pairs(
        self, pixels: NDArray[np.uint8], lane: NDArray[np.int64], position: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """`_gather_stacks` of stacks of four, at `position` and `steps` later; in one go, as it is what batches wait
        for."""
        pairs = gather_pairs(pixels, lane, position, steps, self.age)  # [2, B, H * W, 4]
        shaped = pairs.reshape(2, len(lane), *self.frame_shape, 4).transpose(0, 1, 4, 2, 3)  # [2, B, 4, H, W]
        return self._on_device(shaped[0]), self._on_device(shaped[1])

    def _gather_stacks(self, lane: NDArray[np.int64], position: NDArray[np.int64]) -> Tensor:
        """Observations [B, S, H, W] at `position`, uint8 in memory order channels last; as `_gather`, for the CPU."""
        assert self._pixels is not None
        window = np.arange(-self.frame_stack + 1, 1)
        rows = lane[:, None] * self.slots + (position[:, None] + window) % self.slots
        before = window < -self.age[lane, position % self.slots].astype(np.int64)[:, None]
        stacks = gather_stacks(self._pixels, rows, before)  # [B, H * W, S]
        return self._shaped(stacks)

    def _shaped(self, stacks: NDArray[np.uint8]) -> Tensor:
        """Stacks [B, H * W, S] as observations [B, S, H, W] on the learner's device."""
        shaped = stacks.reshape(len(stacks), *self.frame_shape, -1)  # [B, H, W, S]
        return self._on_device(shaped).permute(0, 3, 1, 2)

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    # ---------------------------------------------------------------- saving

    def state_dict(self) -> dict[str, Any]:
        """What is small: write heads, and the current observations' frames and ages. The rest is `save`'s."""
        slot = self.head % self.slots
        rows = torch.from_numpy(self._lanes * self.slots + slot).to(self.storage)
        return {
            "capacity": self.capacity,
            "head": self.head.copy(),
            "age": self.age[self._lanes, slot],
            "frames": self.frames[rows].cpu().numpy(),
            "started": self._started,
        } | ({} if self.priorities is None else {"priorities": self.priorities.state_dict()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """After `load`, so that the lanes go on where they were."""
        self.head = np.array(state["head"], np.int64)
        self._started = bool(state["started"])
        slot = self.head % self.slots
        self.age[self._lanes, slot] = state["age"]
        self.flags[self._lanes, slot] = 0
        rows = torch.from_numpy(self._lanes * self.slots + slot).to(self.storage)
        self.frames[rows] = torch.from_numpy(np.array(state["frames"])).to(self.storage)
        if self.priorities is not None:
            self.priorities.load_state_dict(state["priorities"])

    def save(self, folder: Path) -> dict[str, Any]:
        """Appends what was written since the last save to compressed segments in `folder`; returns their manifest."""
        if self._store is None:
            self._store = SegmentStore(self.num_envs)
        return self._store.append(folder, self)

    def load(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Reads what a manifest lists. Raises CheckpointError when a segment is missing or damaged."""
        self._store = SegmentStore(self.num_envs)
        self._store.read(folder, manifest, self)
        self.loaded = True

    def prune(self, folder: Path) -> None:
        """Deletes segments that neither the last manifest nor the one before it lists."""
        if self._store is not None:
            self._store.prune(folder)
