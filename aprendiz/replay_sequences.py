"""Sequences out of a replay memory, for learners with a recurrent network.

A sequence starts at a transition drawn uniformly and follows its game for L steps, near to the "bootstrapped random
updates" of Hausknecht and Stone (2015), section "Stable recurrent updates", which draw a game first. It never goes over
into another game, nor over the write head: where it ends sooner the rest is padding, and `mask` is 0. Before it may lie
up to W steps of the same game (a burn-in, Kapturowski et al. 2019, section 3), as many as the game has and as are still
remembered.

    time     0 ... W-b-1   W-b ... W-1    W ... W+m-1           W+m                W+m+1 ... W+L
    what     padding       burn-in        learned, m steps      what the last      padding
                                                                step led to
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aprendiz.errors import ConfigError
from aprendiz.replay import Replay
from aprendiz.replay_kernels import ACTED, NO_BOOTSTRAP

LONGEST_BURN_IN = 250
"""Steps since a game began are counted to 255 only (`Replay.age`), and a stack reaches back further."""


@dataclass(slots=True)
class SequenceBatch:
    """B sequences of L steps, on the learner's device; time is the first axis, as recurrent networks read it."""

    observation: Tensor
    """[W + L + 1, B, ...], in the environment's dtype; zero where there is padding."""
    action: Tensor
    """int64 [L, B]"""
    reward: Tensor
    """float32 [L, B]"""
    discount: Tensor
    """float32 [L, B]: gamma, or 0 where the game was over or a life was lost."""
    mask: Tensor
    """float32 [L, B]: 1 where there is a step, 0 where there is padding."""
    burn_in: NDArray[np.int64]
    """[B] b: steps of burn-in that are none of the padding, at most W."""
    env_steps: int = 0
    """Environment steps taken when the batch was made."""


def sample_sequences(
    replay: Replay,
    batch_size: int,
    length: int,
    generator: np.random.Generator,
    *,
    burn_in: int = 0,
    frames: int | None = None,
) -> SequenceBatch:
    """B sequences of up to `length` steps (L), uniformly with replacement over the steps that they start with.

    `burn_in` is W. `frames`: how many of the newest frames of a stack an observation is made of; None: all of them.
    Raises ConfigError where there is nothing to draw, and for a burn-in or a number of frames that cannot be.
    """
    if length < 1 or not 0 <= burn_in <= LONGEST_BURN_IN:
        raise ConfigError(f"length must be at least 1 and burn_in 0 to {LONGEST_BURN_IN}, got {length} and {burn_in}")
    if frames is not None and not 1 <= frames <= replay.frame_stack:
        raise ConfigError(f"frames must be 1 to {replay.frame_stack}, which are stacked, got {frames}")
    if replay.n_step != 1 or replay.priorities is not None:
        raise ConfigError("sequences are drawn uniformly out of a memory of single steps: use n_step 1, no priorities")
    stack = frames or replay.frame_stack
    lane, start = replay._draw(batch_size, generator)  # each [B]
    reward, discount, mask, action = _steps(replay, lane, start, length)
    age = replay.age[lane, start % replay.slots].astype(np.int64)  # [B]
    oldest = replay.oldest()[lane]
    remembered = np.where(start - age >= oldest, age, np.maximum(start - (stack - 1) - oldest, 0))
    back = np.minimum(burn_in, np.minimum(age, remembered))  # [B]
    observation = _observations(replay, lane, start, back, mask.sum(axis=1).astype(np.int64), burn_in, length, stack)

    def in_time(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.T)).to(replay.device)  # [L, B]

    return SequenceBatch(
        observation=observation,
        action=in_time(action),
        reward=in_time(reward),
        discount=in_time(discount),
        mask=in_time(mask),
        burn_in=back,
    )


def _steps(
    replay: Replay, lane: NDArray[np.int64], start: NDArray[np.int64], length: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Reward, discount, mask and action, each [B, L]."""
    slot = (start[:, None] + np.arange(length)) % replay.slots  # [B, L]
    lanes = lane[:, None]
    flags = replay.flags[lanes, slot]
    # After a game's last step comes the slot of its last observation, in which nothing was done; so is the write head.
    there = np.logical_and.accumulate((flags & ACTED) > 0, axis=1)
    discount = np.where(there & ((flags & NO_BOOTSTRAP) == 0), np.float32(replay.discount), np.float32(0.0))
    reward = np.where(there, replay.reward[lanes, slot], np.float32(0.0))
    action = np.where(there, replay.action[lanes, slot], 0).astype(np.int64)
    return reward, discount, there.astype(np.float32), action


def _observations(
    replay: Replay,
    lane: NDArray[np.int64],
    start: NDArray[np.int64],
    back: NDArray[np.int64],
    steps: NDArray[np.int64],
    burn_in: int,
    length: int,
    stack: int,
) -> Tensor:
    """[W + L + 1, B, ...]; `back` and `steps` [B] say how much of it is no padding."""
    window = np.arange(-burn_in - stack + 1, length + 1)  # [F], of frames
    position = start[:, None] + window  # [B, F]
    rows = torch.from_numpy(lane[:, None] * replay.slots + position % replay.slots)
    age = replay.age[lane, start % replay.slots].astype(np.int64)
    # Frames of other games are zero, as the environment pads the stack of a game's first observation.
    first = -np.minimum(back + stack - 1, age)  # [B]
    outside = (window < first[:, None]) | (window > steps[:, None])  # [B, F]
    frames = replay.frames.index_select(0, rows.T.flatten().to(replay.storage)).unflatten(0, rows.T.shape)
    if outside.any():
        frames[torch.from_numpy(np.ascontiguousarray(outside.T)).to(replay.storage)] = 0  # [F, B, ...]
    frames = frames.to(replay.device)
    if replay.frame_stack == 1:
        return frames
    if stack == 1:
        return frames.unsqueeze(2)  # [T, B, 1, H, W]
    observation = torch.stack([frames[at : len(frames) - stack + 1 + at] for at in range(stack)], dim=2)
    time = np.arange(-burn_in, length + 1)
    padding = (time < -back[:, None]) | (time > steps[:, None])  # [B, T]
    if padding.any():
        observation[torch.from_numpy(np.ascontiguousarray(padding.T)).to(replay.device)] = 0
    return observation  # [T, B, S, H, W]
