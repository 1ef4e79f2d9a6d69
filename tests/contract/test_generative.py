"""Every registered generative model keeps the contract, and `check_generative_model` finds what it is there to find."""

from __future__ import annotations

import dataclasses
import functools
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import data
from aprendiz.data.build import from_arrays
from aprendiz.data.core import Dataset
from aprendiz.errors import ConfigError
from aprendiz.loop import Outcome, Work
from aprendiz.testing import check_generative_model
from generative import GENERATIVE
from tests.threads import one_thread  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[1] / "generative"))
from linear_autoencoder import LinearAutoencoder

BUILTINS = [one.name for one in GENERATIVE.describe_all() if one.distribution == "aprendiz"]


@functools.cache
def digits() -> Dataset:
    """Few of the embedded digits, so that evaluating takes no time."""
    whole = data.load("digits")
    pixels, labels = whole.train.pixels(slice(0, 200)), whole.train.labels
    assert labels is not None
    return finished(from_arrays("digits", pixels, labels[:200], classes=whole.spec.classes))


@functools.cache
def random_images(height: int, width: int, channels: int = 1) -> Dataset:
    """Labelled blobs of any size."""
    generator = np.random.default_rng(height)
    rows, columns = np.mgrid[0:height, 0:width]
    centres = generator.uniform(0.2, 0.8, (60, 2)) * (height, width)
    distance = (rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2  # [N, H, W]
    blobs = 255 * np.exp(-distance / (0.1 * height * width))[:, None] * generator.uniform(0.5, 1, (60, channels, 1, 1))
    labels = np.arange(60) % 3
    return finished(from_arrays("blobs", blobs.astype(np.uint8), labels, classes=("a", "b", "c")))


def finished(dataset: Dataset) -> Dataset:
    from aprendiz.data.build import finish

    return finish(dataset)


SMALL = {
    "batch_size": 16,
    "chains": 16,
    "layers": 2,
    "channels": 8,
    "residual_blocks": 1,
    "ais_chains": 20,
    "ais_temperatures": 50,
    "importance_samples": 5,
}
"""Sizes that decide how long a moment of training takes, by the names that they have in configs."""


def small(config: Any) -> Any:
    known = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changes = {name: size for name, size in SMALL.items() if type(known.get(name)) is int and known[name] > size}
    return dataclasses.replace(config, **changes)


def check(name: str, dataset: Dataset, images: int = 96) -> None:
    model = GENERATIVE.get(name)
    config = small(model.presets(dataset.spec)["default"])
    check_generative_model(model, dataset, config=config, images=images)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_keeps_the_contract_on_digits(name: str) -> None:
    check(name, digits())


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_keeps_the_contract_on_images_of_the_size_of_mnist(name: str) -> None:
    check(name, random_images(28, 28), images=32)


@pytest.mark.parametrize("name", ["denoising", "conv-autoencoder", "vae", "rbm", "dcgan", "pixelcnn"])
def test_models_keep_the_contract_on_small_oblong_colour_pictures(name: str) -> None:
    check(name, random_images(8, 12, channels=3), images=32)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_model_has_its_paper_and_one_line(name: str) -> None:
    found = GENERATIVE.describe(name)
    assert found.summary and found.paper


def test_an_encoder_and_an_agent_s_network_are_one_backbone_class_by_one_registered_name() -> None:
    import envs
    from agents import AGENTS
    from aprendiz import BACKBONES

    dqn, autoencoder = AGENTS.get("dqn"), GENERATIVE.get("autoencoder")
    env, dataset = envs.make("cartpole", 1), digits()
    q_config = dataclasses.replace(dqn.resolve(dqn.presets(env.spec)["default"], 1_000), backbone="mlp")
    agent = dqn(q_config, env.spec.observation_space, env.spec.action_space, seed=1)
    config = dataclasses.replace(autoencoder.presets(dataset.spec)["default"], backbone="mlp")
    model = autoencoder(config, dataset.spec, seed=1)
    mlp = BACKBONES.get("mlp")
    assert type(agent.online.backbone) is mlp
    assert [one for one in model.network.modules() if type(one) is mlp]


# What the check finds


def check_spoilt(**spoilt: Any) -> None:
    model = type("Spoilt", (LinearAutoencoder,), spoilt)
    check_generative_model(model, digits(), images=110)


def test_the_unspoilt_one_passes() -> None:
    check_spoilt()


def seed_torch(self: Any, *arguments: Any, **options: Any) -> None:
    torch.manual_seed(options["seed"])
    LinearAutoencoder.__init__(self, *arguments, **options)


def draw_from_torch(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
    return self.decode(torch.randn(count, self.config.code_units))


def draw_from_python(self: Any, batch: Any) -> Outcome:
    random.random()
    return LinearAutoencoder.update(self, batch)


def start_anyhow(self: Any, *arguments: Any, **options: Any) -> None:
    LinearAutoencoder.__init__(self, *arguments, **options)
    with torch.no_grad():
        self.decoder.bias.add_(float(np.random.default_rng().normal()))


def forget_the_config(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
    LinearAutoencoder.__init__(self, config, *arguments, **options)
    self.config = dataclasses.replace(config, noise=0.5)


def draw_what_learning_draws(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
    return self.decode(torch.randn(count, self.config.code_units, generator=self.generator))


def draw_one_image(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
    return LinearAutoencoder.sample(self, 1, generator).expand(count, -1, -1, -1)


def draw_too_bright(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
    return 2 * LinearAutoencoder.sample(self, count, generator) + 1


def draw_flat(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
    return LinearAutoencoder.sample(self, count, generator).flatten(1)


def draw_bytes(self: Any, count: int, generator: Any, labels: Any = None) -> Any:
    return (255 * LinearAutoencoder.sample(self, count, generator)).to(torch.uint8)


def encode_with_noise(self: Any, images: Any) -> Any:
    codes = LinearAutoencoder.encode(self, images)
    return codes + torch.randn(codes.shape, generator=self.generator)


def encode_with_the_others(self: Any, images: Any) -> Any:
    codes = LinearAutoencoder.encode(self, images)
    return codes - codes.mean(dim=0)


def reconstruct_too_many(self: Any, images: Any) -> Any:
    return LinearAutoencoder.reconstruct(self, images).repeat(2, 1, 1, 1)


def show_weights_as_they_are(self: Any) -> Any:
    return 3 * LinearAutoencoder.filters(self)


def learn_while_validating(self: Any, images: Any, generator: Any, judge: Any = None) -> Any:
    with torch.no_grad():
        self.decoder.bias.add_(0.1)
    return LinearAutoencoder.validate(self, images, generator, judge)


def give_no_score(self: Any, images: Any, generator: Any, judge: Any = None) -> Any:
    return {"reconstruction_error": 1.0}


def score_by_chance(self: Any, images: Any, generator: Any, judge: Any = None) -> Any:
    return {"score": float(np.random.default_rng().normal())}


def write_to_images(self: Any, images: Any) -> Any:
    images.mul_(0.5)
    return LinearAutoencoder.encode(self, images)


def learn_nothing(self: Any, batch: Any) -> Outcome:
    return Outcome({"loss": 0.0})


def measure_nothing_finite(self: Any, batch: Any) -> Outcome:
    return Outcome({**LinearAutoencoder.update(self, batch).metrics, "loss": float("nan")})


def forget_the_optimiser(self: Any, state: Any) -> None:
    self.encoder.load_state_dict(state["encoder"])
    self.decoder.load_state_dict(state["decoder"])
    self.generator.set_state(state["generator"])


def forget_the_generator(self: Any) -> dict[str, Any]:
    state = LinearAutoencoder.state_dict(self)
    del state["generator"]
    return state


def load_without_the_generator(self: Any, state: Any) -> None:
    LinearAutoencoder.load_state_dict(self, {**state, "generator": self.generator.get_state()})


def save_an_object(self: Any) -> dict[str, Any]:
    return {**LinearAutoencoder.state_dict(self), "config": self.config}


def do_more_than_it_says(self: Any, images: Any) -> Any:
    return images.flatten(1)


@classmethod  # type: ignore[misc]
def resolve_twice(cls: Any, config: Any, spec: Any, *, train_images: int, budget_images: int) -> Any:
    return dataclasses.replace(config, learning_rate=1.0 / budget_images)


@classmethod  # type: ignore[misc]
def have_no_default(cls: Any, spec: Any) -> dict[str, Any]:
    return {"fast": cls.Config()}


def leave_the_source_open(self: Any, data: Any, *, seed: int, augment: Any = None) -> Any:
    source = LinearAutoencoder.make_source(self, data, seed=seed, augment=augment)
    source.next, following = lambda limit=None: dataclasses.replace(following(limit), safe_point=False), source.next
    return source


def hand_out_more_than_is_left(self: Any, data: Any, *, seed: int, augment: Any = None) -> Any:
    source = LinearAutoencoder.make_source(self, data, seed=seed, augment=augment)
    source.next, following = lambda limit=None: following(), source.next
    return source


def hand_out_nothing(self: Any, data: Any, *, seed: int, augment: Any = None) -> Any:
    source = LinearAutoencoder.make_source(self, data, seed=seed, augment=augment)
    source.next = lambda limit=None: Work(None, 1, True)
    return source


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"__init__": seed_torch}, "global random state of torch"),
        ({"sample": draw_from_torch}, "the same generator draws other images"),
        ({"update": draw_from_python}, "global random state of Python"),
        ({"__init__": start_anyhow}, "one seed gives two different new models"),
        ({"__init__": forget_the_config}, "model.config is not the config"),
        ({"sample": draw_what_learning_draws}, "the same generator draws other images"),
        ({"sample": draw_one_image}, "all samples are one and the same image"),
        ({"sample": draw_too_bright}, "sample gave values from .* images are in 0..1"),
        ({"sample": draw_flat}, "sample gave Tensor torch.float32 .*6, 64"),
        ({"sample": draw_bytes}, "sample gave Tensor torch.uint8"),
        ({"encode": encode_with_noise}, "encode gives other codes the second time"),
        ({"encode": encode_with_the_others}, "depends on the images beside it"),
        ({"encode": write_to_images}, "written to|second time"),
        ({"reconstruct": reconstruct_too_many}, "reconstruct gave"),
        ({"filters": show_weights_as_they_are}, "filters have norms"),
        ({"validate": learn_while_validating}, "other metrics the second time|changed the model's state"),
        ({"validate": give_no_score}, "validate gave no score"),
        ({"validate": score_by_chance}, "other metrics the second time"),
        ({"update": learn_nothing}, "left the model's state as it was"),
        ({"update": measure_nothing_finite}, "metric loss of update is nan"),
        ({"load_state_dict": forget_the_optimiser}, "another after loading it: /optimizer"),
        ({"load_state_dict": load_without_the_generator}, "another after loading it: /generator"),
        (
            {"state_dict": forget_the_generator, "load_state_dict": load_without_the_generator},
            "not the one that was not stopped",
        ),
        ({"state_dict": save_an_object}, "cannot be saved.*LinearAutoencoderConfig"),
        ({"classify": do_more_than_it_says}, "classify is not among the abilities, and raises no ConfigError"),
        ({"abilities": frozenset({"encode", "dream"})}, "unknown abilities .*dream"),
        ({"abilities": LinearAutoencoder.abilities | {"classify"}}, "cannot classify"),
        ({"precisions": ("fp64",)}, "precisions are"),
        ({"resolve": resolve_twice}, "another budget moves it"),
        ({"presets": have_no_default}, "not called default"),
        ({"make_source": leave_the_source_open}, "hands out work|no safe point"),
        ({"make_source": hand_out_more_than_is_left}, "the source went on to"),
        ({"make_source": hand_out_nothing}, "there were 0 updates"),
    ],
    ids=lambda value: "" if isinstance(value, str) else getattr(next(iter(value.values())), "__name__", "attribute"),
)
def test_a_spoilt_model_is_found(spoilt: dict[str, Any], said: str) -> None:
    with pytest.raises((AssertionError, ConfigError), match=said):
        check_spoilt(**spoilt)


def test_another_constructor_is_found() -> None:
    class Named(LinearAutoencoder):
        def __init__(self, config: Any, spec: Any, *, seed: int) -> None:
            super().__init__(config, spec, seed=seed)

    with pytest.raises(AssertionError, match="the constructor does not take .* 'device'"):
        check_generative_model(Named, digits())
