"""Deep belief network: a stack of machines, a classifier that starts from them, and the likelihood bound."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from aprendiz.data import load
from aprendiz.data.build import from_arrays
from aprendiz.data.core import ImageSpec
from aprendiz.errors import ConfigError
from generative.boltzmann import copy_machine, log_conditional, log_odds, unnormalised_bound
from generative.dbn import DBN, DBNConfig
from generative.fine_tuning import dense_layers
from generative.partition import exact_log_partition
from tests.generative.staged_checks import copies, generator, resumed_exactly, same, train


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def config_of(**options) -> DBNConfig:
    small = {"hidden": (24, 12), "batch_size": 50, "fine_tune_batch_size": 50, "sample_steps": 10, "ema_decay": 0.99}
    return DBNConfig(**(small | options))


def made(config: DBNConfig, data, budget: int = 4_000, seed: int = 1):
    config = DBN.resolve(config, data.spec, train_images=len(data.train), budget_images=budget)
    model = DBN(config, data.spec, seed=seed)
    return model, model.make_source(data, seed=seed)


def test_while_a_machine_learns_the_others_do_not_change(digits) -> None:
    model, source = made(config_of(pretrain_images=500, fine_tune_images=500), digits)
    for layer in range(3):
        before = [copies(machine) for machine in model.machines]
        train(model, source, 500)
        changed = [not same(old, copies(one)) for old, one in zip(before, model.machines, strict=True)]
        assert changed == [layer == 0, layer == 1]


@pytest.mark.parametrize("upward", ["probabilities", "samples"])
def test_a_machine_sees_the_hidden_units_of_the_one_below(digits, upward: str) -> None:
    model, source = made(config_of(upward=upward, binarization="none"), digits)
    train(model, source, 1_000)
    images = digits.train.scaled(slice(0, 30)).flatten(1)
    seen = model._upward(images, 1, generator())
    probabilities = model._machine(0).hidden_probabilities(images)
    if upward == "probabilities":
        torch.testing.assert_close(seen, probabilities)
    else:
        assert set(seen.unique().tolist()) == {0.0, 1.0}
        assert float((seen.mean() - probabilities.mean()).abs()) < 0.1


def test_each_machine_starts_from_the_log_odds_of_what_it_sees(digits) -> None:
    model, source = made(config_of(learning_rate=1e-12, binarization="none", pretrain_images=50), digits)
    batch = source.next().batch
    model.update(batch)
    images = batch.images.flatten(1)
    torch.testing.assert_close(model._machine(0).visible_bias.detach(), log_odds(images.mean(0)))


def test_the_classifier_starts_from_the_machines(digits) -> None:
    """Its layers compute the machines' hidden probabilities."""
    model, source = made(config_of(fine_tune_learning_rate=1e-12), digits)
    train(model, source, 4_000)
    assert model.tuned is not None
    images = digits.test.scaled(slice(0, 7))
    states = images
    for layer in model.tuned.network.layers:
        states = layer(states)
    torch.testing.assert_close(states.detach(), model.encode(images), atol=1e-5, rtol=1e-4)


def test_random_initialisation_is_the_very_same_network(digits) -> None:
    pretrained, _ = made(config_of(), digits)
    random, source = made(config_of(pretrain=False), digits)
    assert pretrained.tuned is not None and random.tuned is not None
    first = copies(random.tuned.network)
    assert same(copies(pretrained.tuned.network), first)
    shapes = [tuple(parameter.shape) for parameter in pretrained.tuned.network.parameters()]
    assert shapes == [tuple(parameter.shape) for parameter in random.tuned.network.parameters()]
    batch = source.next().batch
    assert batch is not None and batch.stage == "fine-tune"
    random._begin("fine-tune")
    assert same(copies(random.tuned.network), first)  # nothing of the untrained machines gets in


def test_it_learns_to_classify_and_still_generates(digits) -> None:
    config = config_of(hidden=(64, 64), batch_size=20, dropout=0.1, input_dropout=0.0, fine_tune_learning_rate=5e-3)
    model, source = made(config, digits, 60_000)
    train(model, source, 30_000)
    before = model.validate(digits.validation, generator())
    assert before["score"] < 0.0
    samples = model.sample(4, generator())
    train(model, source, 30_000)
    after = model.validate(digits.validation, generator())
    assert after["score"] == after["accuracy"] > 0.9
    assert torch.equal(model.sample(4, generator()), samples)
    assert samples.shape == (4, 1, 8, 8) and 0.0 <= float(samples.min()) <= float(samples.max()) <= 1.0


def test_the_score_rises_with_every_machine(digits) -> None:
    model, source = made(config_of(pretrain_images=2_000, fine_tune_images=100), digits)
    scores = []
    for _ in range(2):
        train(model, source, 2_000)
        scores.append(model.validate(digits.validation, generator())["score"])
    train(model, source, 100)
    scores.append(model.validate(digits.validation, generator())["score"])
    assert scores == sorted(scores) and scores[1] < 0.0 <= scores[2]


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("until", [300, 500, 700, 1_000, 1_350])
def test_resuming_in_the_middle_of_any_stage_is_exact(digits, persistent: bool, until: int) -> None:
    config = config_of(persistent=persistent, pretrain_images=500, fine_tune_images=600, upward="samples")
    whole, again = resumed_exactly(lambda: made(config, digits), until, 1_600)
    images = digits.test.scaled(slice(0, 9))
    assert torch.equal(whole.classify(images), again.classify(images))


SPEC = ImageSpec(name="tiny", channels=1, height=4, width=4)


def tiny() -> DBN:
    """Two machines of 16-4-3 units with weights that matter, for enumeration."""
    config = DBNConfig(hidden=(4, 3), fine_tune="none", sample_steps=50)
    model = DBN(config, SPEC, seed=1)
    for number, parameter in enumerate(model.machines.parameters()):
        with torch.no_grad():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator(number)))
    return model


def states(units: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)))


def exact_log_likelihood(model: DBN, visible: torch.Tensor) -> torch.Tensor:
    """log sum over h_1 of p(v | h_1) p_top(h_1): [B]."""
    first, top = model._machine(0), model._machine(1)
    hidden = states(4)
    log_z = exact_log_partition(top.weight, top.visible_bias, top.hidden_bias)
    prior = -top.free_energy(hidden) - log_z  # [16]
    rows = [(log_conditional(first, one.expand(16, -1), hidden) + prior).logsumexp(0) for one in visible]
    return torch.stack(rows)


def test_the_bound_lies_below_the_likelihood_and_not_far() -> None:
    model = tiny()
    visible = states(16)[:: 2**11]
    exact = exact_log_likelihood(model, visible)
    assert model.log_likelihood(visible.reshape(-1, 1, 4, 4), generator()).shape == (len(visible),)
    log_z = model._log_partition(generator()).value
    images = visible.repeat(4_000, 1)
    bound = unnormalised_bound(model._stack(), images, generator(3)).reshape(4_000, -1).mean(0) - log_z
    assert bool((bound < exact + 0.05).all())
    # By hand: sum over h_1 of q(h_1 | v) [log p(v, h_1) - log q(h_1 | v)].
    first, top, hidden = model._machine(0), model._machine(1), states(4)
    for row, v in enumerate(visible):
        q = first.hidden_probabilities(v[None])[0]
        log_q = (hidden * q.log() + (1 - hidden) * (1 - q).log()).sum(1)
        joint = log_conditional(first, v.expand(16, -1), hidden) - top.free_energy(hidden) - log_z
        assert float(bound[row]) == pytest.approx(float((log_q.exp() * (joint - log_q)).sum()), abs=0.15)


def test_samples_follow_the_model() -> None:
    """Means of the pixels over many samples against the enumerated ones."""
    model = tiny()
    top, first, hidden = model._machine(1), model._machine(0), states(4)
    prior = (-top.free_energy(hidden)).softmax(0)
    expected = prior @ first.visible_means(hidden)
    drawn = model.sample(20_000, generator()).flatten(1).mean(0)
    torch.testing.assert_close(drawn, expected, atol=0.02, rtol=0.0)


def test_a_stack_of_one_machine_has_the_exact_likelihood() -> None:
    model = DBN(DBNConfig(hidden=(5,), fine_tune="none"), SPEC, seed=1)
    everything = states(16).reshape(-1, 1, 4, 4)
    assert float(model.log_likelihood(everything, generator()).double().exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_conditionals_of_states_sum_up_to_1() -> None:
    machine = tiny()._machine(0)
    hidden = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    assert float(log_conditional(machine, states(16), hidden).exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_a_dense_layer_takes_over_a_machine(digits) -> None:
    model, source = made(config_of(), digits)
    train(model, source, 500)
    layer = dense_layers(digits.spec, (24,), generator())[0]
    copy_machine(model._machine(0), layer)
    images = digits.test.scaled(slice(0, 6))
    torch.testing.assert_close(layer(images).detach(), model._machine(0).hidden_probabilities(images.flatten(1)))


def test_evaluation_reports_the_bound_with_its_error_bar(digits) -> None:
    model, source = made(config_of(ais_chains=20, ais_temperatures=50), digits)
    train(model, source, 4_000)
    result = model.evaluate(digits, digits.test, generator())
    assert result["log_partition_exact"] == 1.0  # 12 hidden units at the top
    assert result["log_likelihood_bound"] == result["log_likelihood_bound_low"]
    assert -64 * math.log(2) - 40 < result["log_likelihood_bound"] < 0.0
    assert 0.0 <= result["accuracy"] <= 1.0


def test_unlabelled_images_are_generated_only() -> None:
    data = from_arrays("noise", np.random.default_rng(0).integers(0, 255, (80, 6, 5), np.uint8))
    model, source = made(DBN.presets(data.spec)["default"], data, 2_000)
    train(model, source, 2_000)
    assert "classify" not in model.abilities
    assert model.reconstruct(data.test.scaled(slice(0, 2))).shape == (2, 1, 6, 5)
    assert model.filters().shape == (256, 1, 6, 5)
    with pytest.raises(ConfigError, match="no labels"):
        DBN(DBNConfig(), data.spec, seed=1)


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match="nothing is learned"):
        DBNConfig(pretrain=False, fine_tune="none")
    with pytest.raises(ConfigError, match="--scaling unit"):
        DBN(DBNConfig(fine_tune="none"), dataclasses.replace(SPEC, unit_interval=False), seed=1)
    for name, value in (("hidden", ()), ("momentum", 1.0), ("learning_rate", 0.0), ("gibbs_steps", 0)):
        with pytest.raises(ConfigError, match=name):
            DBNConfig(**{name: value})  # type: ignore[arg-type]
