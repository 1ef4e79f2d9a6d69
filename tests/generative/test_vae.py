"""The variational autoencoder: its loss by hand, its bound against the exact likelihood, its names, what it learns."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from aprendiz.data import load
from aprendiz.data.core import ImageBatch, ImageSpec
from aprendiz.data.images import ArrayImages
from aprendiz.errors import ConfigError
from generative.elbo import gaussian_log_density
from generative.vae import LEAST_LOG_DEVIATION, VAE, BetaVAE, BetaVAEConfig, VAEConfig
from tests.threads import one_thread  # noqa: F401

GREY = ImageSpec(name="grey", channels=1, height=8, width=8)
TINY = ImageSpec(name="tiny", channels=1, height=4, width=4)
COLOUR = ImageSpec(name="colour", channels=3, height=12, width=10)
STANDARD = ImageSpec(name="standard", channels=1, height=8, width=8, unit_interval=False)


def make(spec: ImageSpec = GREY, cls: type[VAE] = VAE, preset: str = "default", **changes: Any) -> VAE:
    return cls(dataclasses.replace(cls.presets(spec)[preset], **changes), spec, seed=5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, spec: ImageSpec = GREY) -> Tensor:
    made = torch.rand(count, *spec.shape, generator=generator())
    return made if spec.unit_interval else 4 * made - 2


def held(count: int, spec: ImageSpec = GREY) -> ArrayImages:
    return ArrayImages(spec, torch.randint(0, 256, (count, *spec.shape), generator=generator()).to(torch.uint8))


def test_the_loss_is_summed_over_pixels_and_latent_units_and_averaged_over_images() -> None:
    model = make(likelihood="thresholded", beta=3.0, warmup_images=0)
    batch = pictures(7)
    bits = (batch > 0.5).double()
    with torch.no_grad():
        mean, log_variance = (part.double() for part in model.network.encode(bits.float()))
        noise = torch.randn(mean.shape, generator=make().generator).double()
        y = torch.sigmoid(model.network.decode((mean + (0.5 * log_variance).exp() * noise).float()).double())
    divergence = reconstruction = 0.0
    for b in range(7):
        for d in range(mean.shape[1]):
            m, s = mean[b, d].item(), log_variance[b, d].exp().item()
            divergence += 0.5 * (m * m + s - 1 - math.log(s)) / 7
        for x, p in zip(bits[b].flatten().tolist(), y[b].flatten().tolist(), strict=True):
            reconstruction += (x * math.log(p) + (1 - x) * math.log(1 - p)) / 7
    metrics = {name: float(value) for name, value in model.update(ImageBatch(batch)).metrics.items()}
    assert metrics["kl"] == pytest.approx(divergence, rel=1e-4)
    assert metrics["reconstruction_log_likelihood"] == pytest.approx(reconstruction, rel=1e-4)
    assert metrics["loss"] == pytest.approx(3 * divergence - reconstruction, rel=1e-4)
    assert metrics["elbo"] == pytest.approx(reconstruction - divergence, rel=1e-4)


def test_the_bounds_lie_below_the_likelihood_which_quadrature_gives() -> None:
    """One latent unit: log p(x) = log of the integral over z of p(x|z) N(z; 0, 1), on a fine grid."""
    model = make(TINY, latent_dimensions=1, likelihood="thresholded", importance_samples=50)
    for _ in range(60):
        model.update(ImageBatch(pictures(64, TINY)))
    images = pictures(40, TINY)
    z = torch.linspace(-8, 8, 4_001)[:, None]
    with torch.no_grad():
        logits = model.network.decode(z).flatten(1).double()  # [grid, pixels]
        bits = (images > 0.5).double().flatten(1)
        given = bits @ torch.nn.functional.logsigmoid(logits).T + (1 - bits) @ torch.nn.functional.logsigmoid(-logits).T
        prior = gaussian_log_density(z, torch.zeros_like(z), torch.zeros_like(z)).double()
    exact = torch.logsumexp(given + prior + math.log(16 / 4_000), dim=1)  # [B]

    def bound(draws: int) -> float:
        many = [model._importance_weighted((images > 0.5).float(), generator(seed), draws) for seed in range(60)]
        return torch.stack(many).mean().item()

    with torch.no_grad():
        elbo, weighted = bound(1), bound(50)
    assert elbo < weighted <= exact.mean().item() + 0.01
    assert weighted == pytest.approx(exact.mean().item(), abs=0.05)
    estimate = model.log_likelihood(images, generator())
    assert estimate.shape == (40,) and estimate.mean().item() == pytest.approx(weighted, abs=0.1)


def test_evaluation_reports_the_bound_and_the_tighter_one_of_all_images() -> None:
    model = make(importance_samples=20)
    for _ in range(5):
        model.update(ImageBatch(pictures(32)))
    measured = model._measured(held(700), generator(), 700, 20)
    assert measured["elbo"] == pytest.approx(measured["reconstruction_log_likelihood"] - measured["kl"], rel=1e-5)
    assert measured["iwae_20"] > measured["elbo"] and measured["score"] == pytest.approx(measured["elbo"])


@pytest.mark.parametrize("likelihood", ["dynamic", "static", "thresholded"])
def test_bits_have_an_elbo(likelihood: Any) -> None:
    measured = make(likelihood=likelihood).validate(held(20), generator())
    assert {"elbo", "kl", "score"} <= set(measured)


def test_grey_pixels_in_the_bernoulli_formula_are_not_called_a_likelihood() -> None:
    model = make(likelihood="grey", importance_samples=2)
    for measured in (
        model.update(ImageBatch(pictures(4))).metrics,
        model.validate(held(20), generator()),
        model._measured(held(20), generator(), 20, 2),
    ):
        assert "grey_objective" in measured
        assert not [name for name in measured if "elbo" in name or "iwae" in name or "likelihood" in name]
    with pytest.raises(ConfigError, match="no likelihood"):
        model.log_likelihood(pictures(2), generator())


def test_a_density_is_called_one() -> None:
    measured = make(likelihood="gaussian", importance_samples=2)._measured(held(20), generator(), 20, 2)
    assert "density_elbo" in measured and "density_iwae_2" in measured and "elbo" not in measured


def test_the_bits_are_drawn_afresh_at_each_update() -> None:
    model, read = make(), []
    encode = model.network.encode
    model.network.encode = lambda x: read.append(x.clone()) or encode(x)  # type: ignore[method-assign,func-returns-value]
    for _ in range(2):
        model.update(ImageBatch(pictures(8)))
    assert set(read[0].unique().tolist()) == {0.0, 1.0} and not torch.equal(*read)


def test_the_deviation_of_pixels_is_learned_or_fixed() -> None:
    noise = torch.rand(64, *GREY.shape, generator=generator())
    learned = make(likelihood="gaussian", learning_rate=1e-2)
    fixed = make(likelihood="gaussian", gaussian_deviation=0.5)
    for _ in range(150):
        learned.update(ImageBatch(noise))
        fixed.update(ImageBatch(noise))
    assert fixed.network.log_deviation.exp().item() == pytest.approx(0.5)
    assert learned.network.log_deviation.exp().item() == pytest.approx(math.sqrt(1 / 12), rel=0.25)


def test_the_deviation_of_images_that_come_back_exactly_does_not_fall_for_ever() -> None:
    model = make(likelihood="gaussian", learning_rate=1.0)
    blank = ImageBatch(torch.zeros(8, *GREY.shape))
    for _ in range(30):
        metrics = model.update(blank).metrics
        assert float(model.network.log_deviation.detach()) >= LEAST_LOG_DEVIATION
    assert all(math.isfinite(float(value)) for value in metrics.values())


def test_the_weight_of_the_divergence_rises_over_the_warm_up() -> None:
    model = make(warmup_images=16)
    shares = []
    for _ in range(4):
        metrics = {name: float(value) for name, value in model.update(ImageBatch(pictures(8))).metrics.items()}
        shares.append((metrics["loss"] + metrics["reconstruction_log_likelihood"]) / metrics["kl"])
    assert shares == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-2)


def test_digits_get_a_better_bound() -> None:
    data = load("digits")
    model = make(data.spec, learning_rate_decay_images=40_000)
    before = model.validate(data.validation, generator())["elbo"]
    source, seen = model.make_source(data, seed=0), 0
    while seen < 40_000:
        work = source.next(40_000 - seen)
        model.update(work.batch)
        seen += work.units
    after = model.validate(data.validation, generator())["elbo"]
    pixels = data.train.scaled(slice(None)).mean(dim=0).clamp(1e-6, 1 - 1e-6)
    independent = -(pixels * pixels.log() + (1 - pixels) * (1 - pixels).log()).sum().item()
    assert before < -40 and after > -independent + 1.0


def test_a_larger_beta_is_paid_for_with_reconstruction() -> None:
    data = load("digits")
    found = []
    for beta in (0.25, 8.0):
        model = make(data.spec, BetaVAE, beta=beta)
        for _ in range(150):
            model.update(ImageBatch(data.train.scaled(slice(0, 256))))
        found.append(model.validate(data.validation, generator()))
    assert found[1]["kl"] < 0.5 * found[0]["kl"]
    assert found[1]["reconstruction_log_likelihood"] < found[0]["reconstruction_log_likelihood"]
    assert found[1]["score"] == pytest.approx(
        found[1]["reconstruction_log_likelihood"] - 8.0 * found[1]["kl"], rel=1e-4
    )


@pytest.mark.parametrize("spec", [GREY, TINY, COLOUR, STANDARD], ids=["grey", "tiny", "colour", "standard"])
@pytest.mark.parametrize("cls", [VAE, BetaVAE])
def test_every_preset_learns_encodes_decodes_and_samples(cls: type[VAE], spec: ImageSpec) -> None:
    for preset in cls.presets(spec):
        model = make(spec, cls, preset)
        batch = pictures(6, spec)
        assert all(torch.isfinite(value) for value in model.update(ImageBatch(batch)).metrics.values())
        torch.testing.assert_close(model.decode(model.encode(batch)), model.reconstruct(batch))
        samples = model.sample(3, generator())
        assert samples.shape == (3, *spec.shape) and torch.equal(samples, model.sample(3, generator()))
        assert torch.equal(model.encode(batch), model.encode(batch))
        assert model.filters().shape[1:] == spec.shape


def test_what_has_no_likelihood_of_bits_gets_a_gaussian_one() -> None:
    assert make(STANDARD).config.likelihood == make(COLOUR).config.likelihood == "gaussian"
    assert make(GREY).config.likelihood == "dynamic"


def test_no_preset_is_called_after_a_paper_whose_network_it_is_not() -> None:
    assert "paper" in VAE.presets(GREY) and "paper" not in BetaVAE.presets(GREY)


def test_beta_is_four_in_beta_vae_and_one_otherwise() -> None:
    assert BetaVAEConfig().beta == 4.0 and VAEConfig().beta == 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make(STANDARD, likelihood="dynamic"), "--scaling unit"),
        (lambda: VAEConfig(likelihood="poisson"), "thresholded"),  # type: ignore[arg-type]
        (lambda: VAEConfig(gaussian_deviation=0.0), "above 0"),
        (lambda: VAEConfig(latent_dimensions=0), "at least 1"),
        (lambda: VAEConfig(beta=-1.0), "0 or more"),
        (lambda: VAEConfig(warmup_images=-1), "0 or more"),
    ],
)
def test_what_cannot_be_learned_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
