"""One seed decides everything random, and no two parts share random numbers."""

from __future__ import annotations

import torch

from aprendiz.seeds import Purpose, derived_seed, global_seed, torch_generator


def test_every_purpose_has_random_numbers_of_its_own() -> None:
    seeds = {derived_seed(seed, purpose) for seed in (0, 1, 2) for purpose in Purpose}
    assert len(seeds) == 3 * len(Purpose) and all(0 <= seed < 2**31 for seed in seeds)
    draws = [torch.rand(3, generator=torch_generator(1, Purpose.DATA)) for _ in range(2)]
    assert torch.equal(*draws)


def test_networks_begin_at_a_seed_and_the_global_generator_stays_where_it_was() -> None:
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with global_seed(seed, torch.device("cpu")):
            drawn.append(torch.nn.Linear(3, 3).weight)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)
