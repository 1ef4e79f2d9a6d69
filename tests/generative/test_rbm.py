"""Restricted Boltzmann machines: energies and gradients against enumeration, and learning."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from aprendiz.data.build import finish, from_arrays
from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.errors import ConfigError
from generative.boltzmann import (
    ContrastiveDivergence,
    Machine,
    coins,
    falling_rate,
    likelihood_gradient,
    log_odds,
    pseudo_log_likelihood,
)
from generative.rbm import RBM, RBMConfig
from tests.generative.staged_checks import generator, train


def small(visible: int = 4, hidden: int = 3, scale: float = 1.0, *, gaussian: bool = False) -> Machine:
    machine = Machine(visible, hidden, generator(1), gaussian=gaussian)
    for parameter in machine.parameters():
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator(parameter.numel())))
    return machine


def states(units: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)))


def energy(machine: Machine, visible: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """E(v, h) [V, H] of all pairs, as the paper writes it."""
    interaction = visible @ machine.weight @ hidden.T
    own = (visible @ machine.visible_bias)[:, None] + (hidden @ machine.hidden_bias)[None, :]
    quadratic = 0.5 * visible.square().sum(1)[:, None] if machine.gaussian else 0.0
    return quadratic - interaction - own


def exact_gradient(machine: Machine, data: torch.Tensor) -> list[torch.Tensor]:
    """Of the mean log-likelihood, by enumeration and autograd."""
    leaves = [p.detach().clone().requires_grad_() for p in (machine.weight, machine.visible_bias, machine.hidden_bias)]
    weight, visible_bias, hidden_bias = leaves

    def log_unnormalised(v: torch.Tensor) -> torch.Tensor:
        return v @ visible_bias + torch.nn.functional.softplus(hidden_bias + v @ weight).sum(1)

    everything = log_unnormalised(states(len(visible_bias))).logsumexp(0)
    (log_unnormalised(data).mean() - everything).backward()
    return [leaf.grad for leaf in leaves]  # type: ignore[misc]


# Energies and conditionals


def test_the_free_energy_sums_the_hidden_states_out() -> None:
    for gaussian in (False, True):
        machine = small(gaussian=gaussian)
        visible = torch.randn(5, 4, generator=generator()) if gaussian else states(4)
        brute = -(-energy(machine, visible, states(3))).logsumexp(1)
        torch.testing.assert_close(machine.free_energy(visible), brute)


def test_conditionals_are_those_of_the_joint_distribution() -> None:
    machine = small()
    joint = (-energy(machine, states(4), states(3))).softmax(1)  # p(h | v) of every v
    torch.testing.assert_close(machine.hidden_probabilities(states(4)), joint @ states(3))
    joint = (-energy(machine, states(4), states(3))).softmax(0)  # p(v | h) of every h
    torch.testing.assert_close(machine.visible_means(states(3)), joint.T @ states(4))


def test_gaussian_visible_units_have_mean_b_plus_w_h_and_variance_1() -> None:
    machine = small(gaussian=True)
    hidden = torch.ones(40_000, 3)
    drawn = machine.sample_visible(hidden, generator())
    torch.testing.assert_close(drawn.mean(0), machine.visible_bias + machine.weight.sum(1), atol=0.03, rtol=0.0)
    torch.testing.assert_close(drawn.var(0), torch.ones(4), atol=0.03, rtol=0.0)


def test_gibbs_sampling_reaches_the_exact_distribution() -> None:
    machine = small()
    visible = machine.gibbs(torch.zeros(40_000, 4), 30, generator())
    counts = torch.bincount((visible @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long(), minlength=16) / len(visible)
    exact = (-machine.free_energy(states(4))).softmax(0)
    torch.testing.assert_close(counts, exact, atol=0.01, rtol=0.0)


def test_the_pseudo_likelihood_by_hand() -> None:
    """Two visible units and one hidden one: p(v_1 | v_2) p(v_2 | v_1) from the four states' probabilities."""
    machine = small(2, 1)
    p = (-machine.free_energy(states(2))).softmax(0).reshape(2, 2)  # [v_1, v_2]
    by_hand = [
        math.log(float(p[a, b] / p[:, b].sum())) + math.log(float(p[a, b] / p[a, :].sum()))
        for a, b in itertools.product((0, 1), repeat=2)
    ]
    found = pseudo_log_likelihood(machine, states(2))
    torch.testing.assert_close(found, torch.tensor(by_hand))


def test_the_pseudo_likelihood_of_some_pixels_is_scaled_up() -> None:
    machine = small(4, 3)
    each = torch.stack([pseudo_log_likelihood(machine, states(4), torch.tensor([i])) for i in range(4)])
    torch.testing.assert_close(each.mean(0), pseudo_log_likelihood(machine, states(4)))


# Gradients


def cd_step(steps: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """One step of CD with many images and rate 1, and the exact gradient, of a machine that mixes slowly: it has two
    modes, 00 and 11, and all data lie in one of them."""
    machine, data = small(2, 2), torch.ones(20_000, 2)
    machine.weight.copy_(torch.tensor([[5.0, 0.5], [5.0, -0.5]]))
    machine.visible_bias.copy_(torch.tensor([-2.5, -2.4]))
    machine.hidden_bias.copy_(torch.tensor([-5.0, 0.3]))
    exact = exact_gradient(machine, data[:1])
    trainer = ContrastiveDivergence(machine, generator(), steps=steps, persistent=False, chains=1, weight_decay=0.0)
    before = [p.detach().clone() for p in machine.parameters()]
    trainer.step(data, learning_rate=1.0, momentum=0.0)
    return [after - old for after, old in zip(machine.parameters(), before, strict=True)], exact


def test_cd_with_many_steps_approaches_the_exact_gradient() -> None:
    for step, gradient in zip(*cd_step(80), strict=True):
        torch.testing.assert_close(step, gradient, atol=0.02, rtol=0.0)


def test_cd_1_hardly_leaves_the_data_where_the_machine_mixes_slowly() -> None:
    step, gradient = cd_step(1)
    assert float((step[0] - gradient[0]).abs().max()) > 0.2


def test_persistent_chains_approach_the_exact_gradient_one_step_at_a_time() -> None:
    machine, data = small(scale=0.5), states(4)[[3, 5, 9, 12]]
    exact = exact_gradient(machine, data)
    trainer = ContrastiveDivergence(machine, generator(), steps=1, persistent=True, chains=40_000, weight_decay=0.0)
    for _ in range(40):
        trainer.step(data, learning_rate=0.0, momentum=0.0)
    before = [p.detach().clone() for p in machine.parameters()]
    trainer.step(data, learning_rate=1.0, momentum=0.0)
    for after, old, gradient in zip(machine.parameters(), before, exact, strict=True):
        torch.testing.assert_close(after - old, gradient, atol=0.015, rtol=0.0)


def test_persistent_chains_go_on_where_they_were() -> None:
    trainer = ContrastiveDivergence(small(), generator(), steps=1, persistent=True, chains=8, weight_decay=0.0)
    trainer.step(states(4), 0.0, 0.0)
    assert trainer.fantasy is not None and trainer.fantasy.shape == (8, 4)
    kept = trainer.fantasy.clone()
    expected = trainer.machine.gibbs(kept, 1, torch.Generator().set_state(trainer.generator.get_state()))
    trainer.step(torch.zeros(16, 4), 0.0, 0.0)
    torch.testing.assert_close(trainer.fantasy, expected)


def test_the_negative_chain_runs_on_sampled_hidden_states() -> None:
    """A hidden unit that is on half of the time, and copies itself to two pixels: states keep them equal, probabilities
    would make them two coins."""
    machine = small(2, 1)
    machine.weight.copy_(torch.full((2, 1), 40.0))
    machine.visible_bias.copy_(torch.full((2,), -20.0))
    machine.hidden_bias.copy_(torch.full((1,), -40.0))
    data = torch.tensor([[1.0, 0.0]]).repeat(10_000, 1)  # the hidden unit's input is 0
    seen = {}

    class Spy(Machine):
        def hidden_probabilities(self, visible: torch.Tensor) -> torch.Tensor:
            seen["last"] = visible
            return super().hidden_probabilities(visible)

    machine.__class__ = Spy
    trainer = ContrastiveDivergence(machine, generator(), steps=1, persistent=False, chains=1, weight_decay=0.0)
    trainer.step(data, learning_rate=0.0, momentum=0.0)
    negative = seen["last"]
    assert bool((negative[:, 0] == negative[:, 1]).all())
    assert 0.45 < float(negative.mean()) < 0.55


def test_the_gradient_takes_hidden_units_at_their_probabilities() -> None:
    machine, data, negative = small(), states(4)[:3], states(4)[7:12]
    weight, visible_bias, hidden_bias = likelihood_gradient(machine, data, negative)
    up, down = machine.hidden_probabilities(data), machine.hidden_probabilities(negative)
    torch.testing.assert_close(weight, data.T @ up / 3 - negative.T @ down / 5)
    torch.testing.assert_close(visible_bias, data.mean(0) - negative.mean(0))
    torch.testing.assert_close(hidden_bias, up.mean(0) - down.mean(0))


def test_weight_decay_shrinks_weights_and_no_bias() -> None:
    machine, data = small(), states(4)
    plain, decayed = small(), small()
    for one, decay in ((plain, 0.0), (decayed, 0.5)):
        ContrastiveDivergence(one, generator(), steps=1, persistent=False, chains=1, weight_decay=decay).step(
            data, 0.1, 0.0
        )
    torch.testing.assert_close(plain.weight - decayed.weight, 0.1 * 0.5 * machine.weight)
    torch.testing.assert_close(plain.visible_bias, decayed.visible_bias)
    torch.testing.assert_close(plain.hidden_bias, decayed.hidden_bias)


def test_momentum_carries_the_last_step_on() -> None:
    machine = small()
    trainer = ContrastiveDivergence(machine, generator(), steps=1, persistent=False, chains=1, weight_decay=0.0)
    before = machine.hidden_bias.detach().clone()
    trainer.step(states(4), 0.1, 0.5)
    middle = machine.hidden_bias.detach().clone()
    trainer.step(states(4), 0.1, 0.9)
    assert machine.hidden_bias.grad is not None
    torch.testing.assert_close(machine.hidden_bias - middle, 0.9 * (middle - before) - 0.1 * machine.hidden_bias.grad)


def test_coins_and_odds() -> None:
    torch.testing.assert_close(log_odds(torch.tensor([0.5, 0.75])), torch.tensor([0.0, math.log(3)]))
    assert torch.isfinite(log_odds(torch.tensor([0.0, 1.0]))).all()
    tossed = coins(torch.tensor([0.0, 1.0, 0.3]).repeat(20_000, 1), generator())
    torch.testing.assert_close(tossed.mean(0), torch.tensor([0.0, 1.0, 0.3]), atol=0.01, rtol=0.0)


def test_the_learning_rate_falls_linearly() -> None:
    assert falling_rate(0.1, 0.0, 100, 0) == pytest.approx(0.1)
    assert falling_rate(0.1, 0.2, 100, 50) == pytest.approx(0.06)
    assert falling_rate(0.1, 0.2, 100, 500) == pytest.approx(0.02)


# The model


def bars(size: int = 4):
    """All different images of size x size with full rows or full columns: 30 for size 4, each 20 times."""
    patterns = set()
    for chosen in itertools.product((0, 1), repeat=size):
        rows = np.repeat(np.array(chosen, np.uint8)[:, None], size, axis=1)
        patterns |= {rows.tobytes(), np.ascontiguousarray(rows.T).tobytes()}
    images = np.stack([np.frombuffer(one, np.uint8).reshape(size, size) for one in sorted(patterns)])
    everything = np.repeat(images, 20, axis=0) * 255
    return from_arrays("bars", everything, test_images=everything, validation=len(images))


def trained(config: RBMConfig, data, images: int, seed: int = 1) -> RBM:
    config = RBM.resolve(config, data.spec, train_images=len(data.train), budget_images=images)
    model = RBM(config, data.spec, seed=seed)
    train(model, model.make_source(data, seed=seed), images)
    return model


def test_it_learns_bars_and_stripes_to_near_the_optimum() -> None:
    data = bars()
    config = RBMConfig(
        hidden=18, learning_rate=0.2, momentum=0.0, initial_momentum=0.0, batch_size=60, gibbs_steps=5, weight_decay=0.0
    )
    model = trained(config, data, 180_000)
    result = model.evaluate(data, data.test, generator())
    assert result["log_partition_exact"] == 1.0
    optimum = -math.log(30)
    assert result["log_likelihood"] > optimum - 0.5
    assert result["log_likelihood"] <= optimum + 1e-3
    assert result["log_likelihood_low"] == result["log_likelihood"] == result["log_likelihood_high"]


SPEC = ImageSpec(name="small", channels=1, height=4, width=4)


def batch(count: int = 12, seed: int = 0) -> ImageBatch:
    return ImageBatch(torch.rand(count, 1, 4, 4, generator=generator(seed)))


def model_of(**options) -> RBM:
    config = RBMConfig(hidden=6, chains=10, batch_size=12, sample_steps=20, **options)
    return RBM(RBM.resolve(config, SPEC, train_images=100, budget_images=600), SPEC, seed=4)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_saved_machine_goes_on_exactly(persistent: bool) -> None:
    whole = model_of(persistent=persistent)
    for seed in range(5):
        whole.update(batch(seed=seed))
    again = model_of(persistent=persistent)
    again.load_state_dict(copy.deepcopy(whole.state_dict()))
    for seed in range(5, 9):
        for model in (whole, again):
            model.update(batch(seed=seed))
    for left, right in zip(whole.machine.parameters(), again.machine.parameters(), strict=True):
        assert torch.equal(left, right)
    if persistent:
        assert torch.equal(whole.trainer.fantasy, again.trainer.fantasy)  # type: ignore[arg-type]
    assert torch.equal(whole.sample(3, generator(1)), again.sample(3, generator(1)))


def test_visible_biases_start_at_the_log_odds_of_the_pixels() -> None:
    model = model_of(learning_rate=1e-12)
    first = batch()
    model.update(first)
    expected = log_odds(first.images.flatten(1).mean(0))
    torch.testing.assert_close(model.machine.visible_bias.detach(), expected)


def test_grey_pixels_are_tossed_anew_or_cut_or_kept_as_the_option_says() -> None:
    grey = torch.full((400, 16), 0.3)
    dynamic = model_of()._visible(grey, generator())
    assert set(dynamic.unique().tolist()) == {0.0, 1.0} and 0.25 < float(dynamic.mean()) < 0.35
    assert not torch.equal(dynamic, model_of()._visible(grey, generator(1)))
    assert float(model_of(binarization="threshold")._visible(grey, generator()).max()) == 0.0
    model = model_of(binarization="none")
    assert torch.equal(model._visible(grey, generator(), grey=True), grey)
    assert set(model._visible(grey, generator()).unique().tolist()) == {0.0, 1.0}  # what likelihoods are of


def test_the_gap_compares_held_out_with_training_images_and_grows_when_it_overfits() -> None:
    random = (np.random.default_rng(0).random((40, 4, 4)) > 0.5).astype(np.uint8) * 255
    data = from_arrays("noise", random, test_images=random[:5], validation=20)
    config = RBMConfig(hidden=60, learning_rate=0.5, batch_size=20, chains=20, weight_decay=0.0)
    early = trained(config, data, 100).validate(data.validation, generator())
    late = trained(config, data, 20_000).validate(data.validation, generator())
    assert late["free_energy_gap"] == pytest.approx(late["free_energy_held_out"] - late["free_energy_train"])
    assert abs(early["free_energy_gap"]) < 1.0
    assert late["free_energy_gap"] > 3.0


def test_the_score_is_a_likelihood_and_not_the_reconstruction_error() -> None:
    data = bars()
    small_result = trained(RBMConfig(hidden=5), data, 2_000).validate(data.validation, generator())
    assert small_result["score"] == small_result["log_likelihood"]
    wide = from_arrays("wide", np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8))
    result = trained(RBMConfig(hidden=30), wide, 500).validate(wide.validation, generator())
    assert result["score"] == result["pseudo_likelihood"]
    assert "log_likelihood" not in result


def test_a_large_machine_is_scored_by_ais_with_an_error_bar() -> None:
    data = from_arrays("wide", np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8))
    model = trained(RBMConfig(hidden=30, ais_chains=50, ais_temperatures=300), data, 2_000)
    result = model.evaluate(data, data.test, generator())
    assert result["log_partition_exact"] == 0.0
    assert result["log_likelihood_low"] < result["log_likelihood"] < result["log_likelihood_high"]
    each = model.log_likelihood(data.test.scaled(slice(0, 6)), generator())
    assert each.shape == (6,)
    assert float(each.mean()) == pytest.approx(result["log_likelihood"], abs=3.0)


def test_likelihoods_of_all_images_sum_up_to_1() -> None:
    model = RBM(RBMConfig(hidden=5, binarization="threshold"), SPEC, seed=1)
    everything = torch.tensor(list(itertools.product((0.0, 1.0), repeat=16))).reshape(-1, 1, 4, 4)
    assert float(model.log_likelihood(everything, generator()).double().exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_samples_come_from_the_generator_alone() -> None:
    model = model_of()
    for seed in range(3):
        model.update(batch(seed=seed))
    assert torch.equal(model.sample(4, generator(7)), model.sample(4, generator(7)))
    assert not torch.equal(model.sample(4, generator(7)), model.sample(4, generator(8)))
    assert model.sample(4, generator()).shape == (4, 1, 4, 4)


def test_chains_can_start_from_those_saved_with_the_run() -> None:
    model = model_of(sample_from="fantasy")
    model.update(batch())
    assert model.sample(25, generator()).shape == (25, 1, 4, 4)
    with pytest.raises(ConfigError, match="persistent"):
        RBMConfig(sample_from="fantasy", persistent=False)


def test_filters_are_rows_of_weights_of_norm_1() -> None:
    model = model_of()
    shown = model.filters()
    assert shown.shape == (6, 1, 4, 4)
    torch.testing.assert_close(shown.flatten(1).norm(dim=1), torch.ones(6))
    weight = model.machine.weight.detach()
    torch.testing.assert_close(shown[2].flatten(), weight[:, 2] / weight[:, 2].norm())


def test_binary_units_want_pixels_in_the_unit_interval() -> None:
    spec = dataclasses.replace(SPEC, unit_interval=False)
    with pytest.raises(ConfigError, match="--scaling unit"):
        RBM(RBMConfig(), spec, seed=1)
    assert RBM.presets(spec)["default"].visible == "gaussian"


def test_gaussian_units_learn_the_mean_and_are_scored_by_density() -> None:
    grey = np.random.default_rng(0).normal(100, 20, (300, 4, 4)).clip(0, 255).astype(np.uint8)
    data = finish(from_arrays("grey", grey), scaling="standard")
    model = trained(RBM.presets(data.spec)["exact"], data, 2_000)
    result = model.evaluate(data, data.test, generator())
    # Independent pixels of variance 1 have the density of a standard normal: 16 times -(log 2 pi + 1) / 2.
    assert result["log_likelihood"] == pytest.approx(-8 * (math.log(2 * math.pi) + 1), abs=1.0)
    assert model.sample(3, generator()).shape == (3, 1, 4, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0),
        ("gibbs_steps", 0),
        ("momentum", 1.0),
        ("learning_rate", 0.0),
        ("ais_chains", 1),
        ("final_share", 2),
    ],
)
def test_values_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        RBMConfig(**{name: value})  # type: ignore[arg-type]
