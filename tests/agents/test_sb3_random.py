"""The library's global random state is there while it runs, and nowhere else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from agents.sb3_random import LibraryRandom
from aprendiz.testing.common import global_random_state_left_alone, through_a_checkpoint

CPU = torch.device("cpu")


def draws() -> list[float]:
    """From each of the three, with what NumPy and Python keep of a pair of normal numbers."""
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(()))]
    return [*numbers, float(torch.randn(())), np.random.randint(1000)]


def test_nothing_of_it_is_seen_outside() -> None:
    with global_random_state_left_alone():
        library = LibraryRandom(1, CPU)
        with library.in_place():
            draws()


def test_what_others_draw_changes_nothing_inside() -> None:
    quiet, disturbed = LibraryRandom(1, CPU), LibraryRandom(1, CPU)
    with quiet.in_place():
        expected = [draws(), draws()]
    with disturbed.in_place():
        found = [draws()]
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    draws()
    with disturbed.in_place():
        found.append(draws())
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
    assert found == expected


def test_the_seed_decides() -> None:
    drawn = []
    for seed in (1, 1, 2):
        with LibraryRandom(seed, CPU).in_place():
            drawn.append(draws())
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_error_inside_puts_the_outer_state_back() -> None:
    library = LibraryRandom(1, CPU)

    def fail() -> None:
        with library.in_place():
            draws()
            raise ZeroDivisionError

    with global_random_state_left_alone(), pytest.raises(ZeroDivisionError):
        fail()


def test_a_saved_state_goes_on_alike() -> None:
    first, second = LibraryRandom(1, CPU), LibraryRandom(2, CPU)
    with first.in_place():
        draws()
    second.load_state_dict(through_a_checkpoint(first.state_dict()))
    with first.in_place():
        expected = draws()
    with second.in_place():
        assert draws() == expected


def test_it_is_not_put_in_place_twice() -> None:
    library = LibraryRandom(1, CPU)
    with library.in_place(), pytest.raises(RuntimeError, match="in place already"), library.in_place():
        pass
