"""Stacks of frames that are gathered by vectors, against stacks put together one by one."""

from __future__ import annotations

import numpy as np
import pytest

from aprendiz.replay_frames import AHEAD, gather_pairs


@pytest.mark.parametrize("pixels", [1, 63, AHEAD - 1, AHEAD, AHEAD + 1, 84 * 84])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_pairs_are_stacks_of_what_is_in_the_ring(pixels: int, steps: int) -> None:
    generator, lanes, slots = np.random.default_rng(pixels + steps), 2, 20
    frames = generator.integers(1, 256, (lanes * slots, pixels), dtype=np.uint8)
    age = generator.integers(0, 6, (lanes, slots), dtype=np.uint8)
    lane, position = np.divmod(np.arange(lanes * slots), slots)  # every slot, so that some stacks go round the ring
    position += 3 * slots
    found = gather_pairs(frames, lane, position, np.full(len(lane), steps), age)
    for stacks, newest in zip(found, (position, position + steps), strict=True):
        for sample in range(len(lane)):
            old = age[lane[sample], newest[sample] % slots]
            for back in range(4):
                frame = frames[lane[sample] * slots + (newest[sample] - back) % slots]
                np.testing.assert_array_equal(stacks[sample, :, 3 - back], frame if back <= old else 0)
