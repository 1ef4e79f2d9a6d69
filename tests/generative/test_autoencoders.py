"""The autoencoders on digits: what they compare, what they learn, what they save, and what they refuse."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import jacrev, vmap

from agents.dqn import QNetwork
from aprendiz.data import load
from aprendiz.data.core import Dataset, ImageBatch, ImageSpec
from aprendiz.data.images import ArrayImages
from aprendiz.errors import ConfigError
from aprendiz.optim import cosine_schedule
from generative import GENERATIVE
from generative.autoencoder import Autoencoder, AutoencoderConfig
from generative.coding_networks import Codec
from generative.contractive import ContractiveAutoencoder, ContractiveConfig
from generative.conv_autoencoder import ConvAutoencoder
from generative.denoising import DenoisingAutoencoder, DenoisingConfig
from generative.sparse import SparseAutoencoder, SparseConfig
from tests.threads import one_thread  # noqa: F401

NAMES = ("autoencoder", "conv-autoencoder", "denoising", "sparse", "contractive")
GREY = ImageSpec(name="grey", channels=1, height=8, width=8)
COLOUR = ImageSpec(name="colour", channels=3, height=12, width=10)
STANDARD = ImageSpec(name="standard", channels=1, height=8, width=8, unit_interval=False)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def make(name: str, spec: ImageSpec = GREY, preset: str = "default", **changes: Any) -> Any:
    model = GENERATIVE.get(name)
    return model(dataclasses.replace(model.presets(spec)[preset], **changes), spec, seed=5)


def images(count: int, spec: ImageSpec = GREY, seed: int = 0) -> Tensor:
    made = torch.rand(count, *spec.shape, generator=torch.Generator().manual_seed(seed))
    return made if spec.unit_interval else 4 * made - 2


def teach(model: Any, data: Dataset, count: int, seed: int = 0) -> None:
    source, seen = model.make_source(data, seed=seed), 0
    while seen < count:
        work = source.next(count - seen)
        model.update(work.batch)
        seen += work.units


# What is compared with what


def test_the_input_is_corrupted_and_the_clean_image_is_asked_for() -> None:
    model = make("denoising", noise_level=0.5, weight_decay=0.0)
    batch = images(16)
    read, asked = [], []
    encode, error = model.network.encode, model._error
    model.network.encode = lambda x: read.append(x.detach().clone()) or encode(x)
    model._error = lambda logits, x: asked.append(x.detach().clone()) or error(logits, x)
    model.update(ImageBatch(batch))
    assert torch.equal(asked[0], images(16)) and torch.equal(batch, images(16))
    assert (read[0] == 0).float().mean() > 0.4
    assert torch.equal(read[0][read[0] != 0], images(16)[read[0] != 0])


def test_each_update_corrupts_afresh() -> None:
    model = make("denoising")
    read: list[Tensor] = []
    encode = model.network.encode
    model.network.encode = lambda x: read.append(x.detach().clone()) or encode(x)
    for _ in range(2):
        model.update(ImageBatch(images(8)))
    assert not torch.equal(read[0], read[1])


def test_the_loss_of_a_denoising_update_by_hand() -> None:
    model = make("denoising", noise="none", weight_decay=0.1)
    weight = model.network.encoder.layers[0].weight.detach().double().numpy()
    bias = model.network.encoder.layers[0].bias.detach().double().numpy()
    back = model.network.decoder.biases[0].detach().double().numpy()
    x = images(4).flatten(1).double().numpy()
    code = 1 / (1 + np.exp(-(x @ weight.T + bias)))
    y = 1 / (1 + np.exp(-(code @ weight + back)))
    by_hand = -(x * np.log(y) + (1 - x) * np.log(1 - y)).sum(axis=1).mean()
    metrics = model.update(ImageBatch(images(4))).metrics
    assert float(metrics["denoising_loss"]) == pytest.approx(by_hand, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(by_hand + 0.1 * 0.5 * (weight**2).sum(), rel=1e-5)


def test_tied_weights_are_one_tensor_that_learns_from_both_sides() -> None:
    torch.manual_seed(0)
    codec = Codec(GREY, hidden=(10, 6), activation="sigmoid", code_size=3, tied_weights=True)
    assert len(codec.weights()) == 3
    codes = torch.rand(2, 3)
    layers = [codec.encoder.layers[0], codec.encoder.layers[2], codec.code]  # type: ignore[index]
    hidden = torch.sigmoid(codes @ layers[2].weight + codec.decoder.biases[0])  # type: ignore[union-attr,index]
    hidden = torch.sigmoid(hidden @ layers[1].weight + codec.decoder.biases[1])  # type: ignore[union-attr,index]
    by_hand = hidden @ layers[0].weight + codec.decoder.biases[2]  # type: ignore[union-attr,index]
    torch.testing.assert_close(codec.decode(codes).flatten(1), by_hand)
    codec.decode(codes).sum().backward()
    assert layers[0].weight.grad is not None and layers[0].weight.grad.abs().sum() > 0


def test_the_contraction_of_a_deep_encoder_is_that_of_autograd_s_jacobian() -> None:
    model = make("contractive", hidden=(9, 6), jacobian="exact")
    batch = images(5)
    jacobian = vmap(jacrev(lambda image: model.network.encode(image[None])[0]))(batch)
    expected = jacobian.flatten(1).square().sum(dim=1).mean().item()
    metrics = model.update(ImageBatch(batch)).metrics
    assert float(metrics["jacobian_norm"]) == pytest.approx(expected, rel=1e-4)


def test_a_one_layer_encoder_takes_the_closed_form_and_a_deep_one_an_estimate() -> None:
    assert make("contractive")._closed_form()
    assert not make("contractive", preset="deep")._closed_form()
    assert not make("contractive", activation="tanh")._closed_form()


@pytest.mark.parametrize("name", NAMES)
def test_a_contraction_or_penalty_does_not_leave_the_batch_changed(name: str) -> None:
    batch = images(4)
    make(name).update(ImageBatch(batch))
    assert not batch.requires_grad and torch.equal(batch, images(4))


def test_the_kl_penalty_keeps_to_sigmoid_units() -> None:
    for changes in ({"activation": "relu"}, {"code_size": 4}):
        with pytest.raises(ConfigError, match="sigmoid"):
            SparseConfig(**changes)
    SparseConfig(activation="relu", penalty="l1")


# What they learn


def pca_error(data: Dataset, components: int) -> float:
    train = data.train.scaled(slice(None)).flatten(1)
    test = data.validation.scaled(slice(None)).flatten(1) - train.mean(dim=0)
    directions = torch.linalg.svd(train - train.mean(dim=0), full_matrices=False).Vh[:components]
    return (test - test @ directions.T @ directions).square().mean().item()


@pytest.mark.parametrize(("name", "components"), [("autoencoder", 8), ("conv-autoencoder", 8), ("denoising", 4)])
def test_digits_come_back_better_than_from_a_few_principal_components(
    name: str, components: int, digits: Dataset
) -> None:
    model = make(name, digits.spec, learning_rate=4e-3, learning_rate_decay_images=60_000)
    teach(model, digits, 60_000 if name != "conv-autoencoder" else 20_000)
    error = model.validate(digits.validation, torch.Generator().manual_seed(0))["mean_squared_error"]
    assert error < pca_error(digits, components)


def test_the_sparsity_penalty_brings_mean_activations_to_their_target(digits: Dataset) -> None:
    model = make("sparse", digits.spec, learning_rate=1e-2, sparsity_target=0.1)
    teach(model, digits, 60_000)
    measured = model.validate(digits.validation, torch.Generator().manual_seed(0))
    assert measured["mean_activation"] == pytest.approx(0.1, abs=0.02)


def test_contraction_shrinks_the_jacobian(digits: Dataset) -> None:
    norms = []
    for weight in (0.0, 1.0):
        model = make("contractive", digits.spec, contraction_weight=weight, learning_rate=4e-3)
        teach(model, digits, 30_000)
        norms.append(model.validate(digits.validation, torch.Generator().manual_seed(0))["jacobian_norm"])
    assert norms[1] < 0.5 * norms[0]


def test_a_denoiser_removes_noise(digits: Dataset) -> None:
    model = make("denoising", digits.spec, learning_rate=1e-2)
    teach(model, digits, 60_000)
    measured = model.validate(digits.validation, torch.Generator().manual_seed(0))
    clean = digits.validation.scaled(slice(None))
    mask = torch.rand(clean.shape, generator=torch.Generator().manual_seed(1)) >= 0.2
    restored = model.reconstruct(clean * mask)
    assert (restored - clean).square().mean() < (clean * ~mask).square().mean()
    assert measured["denoising_loss"] > measured["reconstruction_loss"]


# What they offer


@pytest.mark.parametrize("spec", [GREY, COLOUR, STANDARD], ids=["grey", "colour", "standard"])
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_learns_encodes_decodes_and_samples(name: str, spec: ImageSpec) -> None:
    for preset in GENERATIVE.get(name).presets(spec):
        model = make(name, spec, preset)
        batch = images(6, spec)
        assert all(torch.isfinite(value) for value in model.update(ImageBatch(batch)).metrics.values())
        codes = model.encode(batch)
        assert codes.dtype == torch.float32 and codes.ndim == 2
        torch.testing.assert_close(model.decode(codes), model.reconstruct(batch))
        samples = model.sample(3, torch.Generator().manual_seed(1))
        assert samples.shape == (3, *spec.shape) and torch.isfinite(samples).all()
        assert torch.equal(samples, model.sample(3, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", NAMES)
def test_filters_have_norm_one_and_the_shape_of_an_image(name: str) -> None:
    filters = make(name).filters()
    assert filters.shape[1:] == GREY.shape
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(len(filters)))


def test_no_other_input_of_norm_one_excites_a_unit_more() -> None:
    model = make("denoising")
    best = model.encode(model.filters()).diagonal()
    others = torch.randn(2_000, 64, generator=torch.Generator().manual_seed(0))
    others = (others / others.norm(dim=1, keepdim=True)).view(-1, *GREY.shape)
    assert (model.encode(others).max(dim=0).values < best).all()


def test_ascent_finds_inputs_that_excite_units_of_a_deep_encoder() -> None:
    model = make("conv-autoencoder", code_size=6)
    best = model.encode(model.filters()).diagonal()
    others = torch.randn(5_000, 64, generator=torch.Generator().manual_seed(0))
    others = (others / others.norm(dim=1, keepdim=True)).view(-1, *GREY.shape)
    assert (model.encode(others).max(dim=0).values < best).all()


@pytest.mark.parametrize("sampling", ["density", "chain"])
def test_samples_are_decided_by_the_generator_and_the_weights_alone(sampling: str) -> None:
    one, other = (make("denoising", sampling=sampling) for _ in range(2))
    one.update(ImageBatch(images(64)))
    other.load_state_dict(one.state_dict())
    torch.rand(7)
    samples = [model.sample(4, torch.Generator().manual_seed(2)) for model in (one, other)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], one.sample(4, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(("loss", "bits"), [("cross-entropy", True), ("squared-error", False)])
def test_a_chain_draws_bits_only_where_probabilities_of_bits_were_learned(
    loss: Any, bits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("denoising", loss=loss, sampling="chain", chain_steps=3)
    model.update(ImageBatch(images(64)))
    spoilt: list[Tensor] = []
    monkeypatch.setattr("generative.denoising.corrupt", lambda images, *_: spoilt.append(images) or images)
    model.sample(4, torch.Generator().manual_seed(2))
    assert [set(step.unique().tolist()) <= {0.0, 1.0} for step in spoilt] == [False, bits, bits]


@pytest.mark.parametrize("name", [*NAMES, "vae", "beta-vae"])
def test_learning_goes_on_exactly_from_a_saved_state(name: str) -> None:
    whole, first = make(name), make(name)
    for model in (whole, first):
        for step in range(3):
            model.update(ImageBatch(images(8, seed=step)))
    second = make(name)
    second.load_state_dict(first.state_dict())
    for step in range(3, 6):
        expected = whole.update(ImageBatch(images(8, seed=step))).metrics
        assert second.update(ImageBatch(images(8, seed=step))).metrics == expected
    for ours, theirs in zip(second.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    samples = [model.sample(2, torch.Generator().manual_seed(0)) for model in (whole, second)]
    assert torch.equal(*samples)


@pytest.mark.parametrize("name", [*NAMES, "vae"])
def test_one_seed_gives_one_model_and_leaves_the_global_generator_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = make(name), make(name)
    for model in (one, other):
        model.update(ImageBatch(images(8)))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True))


@pytest.mark.parametrize("name", ["mlp", "conv-encoder"])
def test_an_encoder_and_the_network_of_an_agent_are_one_class_by_one_name(name: str) -> None:
    agent = QNetwork(name, GREY.space, 4)
    for model in ("autoencoder", "denoising", "vae"):
        changes = {"tied_weights": False} if model == "denoising" else {}
        encoder = make(model, backbone=name, **changes).network.encoder
        assert type(encoder) is type(agent.backbone)


def test_another_s_backbone_needs_features_only() -> None:
    for name in ("autoencoder", "conv-autoencoder", "contractive", "vae"):
        changes = {"tied_weights": False} if name == "contractive" else {}
        model = make(name, backbone=f"{__name__}:Plain", **changes)
        model.update(ImageBatch(images(4)))
        assert model.filters().shape[1:] == GREY.shape


class Plain(torch.nn.Module):
    """Somebody's own."""

    features = 5

    def __init__(self, observation_space: Any) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(int(np.prod(observation_space.shape)), self.features)

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(self.dense(image.flatten(1)))


@pytest.mark.parametrize("name", ["autoencoder", "conv-autoencoder", "vae", "stacked"])
def test_an_image_s_code_does_not_depend_on_the_others_where_a_backbone_normalises_by_the_batch(name: str) -> None:
    changes: dict[str, Any] = {"hidden": (6, 4)} if name == "stacked" else {}
    cls = GENERATIVE.get(name)
    config = dataclasses.replace(cls.presets(GREY)["default"], backbone=f"{__name__}:Normalising", **changes)
    model = cls(cls.resolve(config, GREY, train_images=100, budget_images=100), GREY, seed=0)
    for _ in range(3):
        model.update(ImageBatch(images(16), stage="layer-1" if name == "stacked" else ""))
    networks = model.modules()["encoders" if name == "stacked" else "network"]
    before = {key: value.clone() for key, value in networks.state_dict().items()}
    others = images(8)
    torch.testing.assert_close(model.encode(others)[:1], model.encode(others[:1]))
    model.filters()
    model.validate(ArrayImages(GREY, (255 * others).to(torch.uint8)), torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[key]) for key, value in networks.state_dict().items())
    assert all(module.training for module in networks.modules())


class Normalising(torch.nn.Module):
    """Somebody's own, with batch normalisation and dropout."""

    features = 6

    def __init__(self, observation_space: Any) -> None:
        super().__init__()
        dense = torch.nn.Linear(int(np.prod(observation_space.shape)), self.features)
        self.layers = torch.nn.Sequential(dense, torch.nn.BatchNorm1d(self.features), torch.nn.Dropout(0.5))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image.flatten(1))


# What is decided by the budget


def test_the_step_size_falls_along_a_cosine_over_the_budget() -> None:
    model_class = GENERATIVE.get("autoencoder")
    config = model_class.resolve(AutoencoderConfig(), GREY, train_images=100, budget_images=64)
    assert config.learning_rate_decay_images == 64
    model = model_class(config, GREY, seed=0)
    seen = []
    for _ in range(9):
        model.update(ImageBatch(images(8)))
        seen.append(model.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([cosine_schedule(1e-3, 1e-5, 64, 8 * step) for step in range(9)])
    assert seen[0] == 1e-3 and seen[4] == pytest.approx((1e-3 + 1e-5) / 2) and seen[8] == 1e-5


def test_a_schedule_that_was_given_is_not_moved() -> None:
    config = AutoencoderConfig(learning_rate_decay_images=7)
    assert Autoencoder.resolve(config, GREY, train_images=100, budget_images=64) is config


# What they refuse


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make("autoencoder", code_size=64), "not smaller than an image"),
        (lambda: make("autoencoder", STANDARD, loss="cross-entropy"), "--scaling unit"),
        (lambda: make("denoising", STANDARD, noise="salt-and-pepper"), "--scaling unit"),
        (lambda: make("denoising", backbone="conv-encoder"), "tied_weights"),
        (lambda: make("sparse", backbone=f"{__name__}:Plain"), "sigmoid"),
        (lambda: DenoisingConfig(noise_level=1.5), "share"),
        (lambda: ContractiveConfig(contraction_weight=-1.0), "0 or more"),
        (lambda: AutoencoderConfig(learning_rate=0.0), "above 0"),
        (lambda: AutoencoderConfig(activation="swishy"), "unknown activation"),
    ],
)
def test_what_cannot_be_learned_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_names_stand_for_the_classes() -> None:
    classes = (Autoencoder, ConvAutoencoder, DenoisingAutoencoder, SparseAutoencoder, ContractiveAutoencoder)
    assert tuple(GENERATIVE.get(name) for name in NAMES) == classes
