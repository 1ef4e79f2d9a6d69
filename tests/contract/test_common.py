"""What the contract checks of all families share."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from aprendiz.testing.common import global_random_state_left_alone


def states() -> tuple[object, bytes, bytes]:
    return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # type: ignore[union-attr,index]


@pytest.mark.parametrize("seed", [torch.manual_seed, np.random.seed, random.seed])
def test_seeding_again_with_the_number_that_was_seeded_with_is_found(seed: object) -> None:
    assert callable(seed)
    seed(7)
    with pytest.raises(AssertionError, match="global random state"), global_random_state_left_alone():
        seed(7)


def test_checking_leaves_the_global_random_states_alone() -> None:
    before = states()
    with global_random_state_left_alone():
        pass
    assert states() == before
