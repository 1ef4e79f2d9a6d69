from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generative.gan_losses import (
    discriminator_loss,
    gradient_penalty,
    interpolate,
    minimax_generator_loss,
    non_saturating_generator_loss,
    real_gradient_penalty,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)


def logit(probability: float) -> Tensor:
    return torch.tensor([math.log(probability / (1 - probability))])


def slope(loss: Tensor, at: Tensor) -> float:
    return float(torch.autograd.grad(loss, at)[0].sum())


def test_the_discriminator_s_loss_by_hand() -> None:
    # D says 0.8 and 0.6 of the real images, 0.3 of the generated one.
    real, fake = torch.cat([logit(0.8), logit(0.6)]), logit(0.3)
    expected = -(math.log(0.8) + math.log(0.6)) / 2 - math.log(0.7)
    assert float(discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-6)


def test_where_nothing_can_be_told_apart_the_discriminator_loses_twice_log_2() -> None:
    # Goodfellow et al. (2014), theorem 1: the value of the game is -log 4 there.
    assert float(discriminator_loss(torch.zeros(3), torch.zeros(5))) == pytest.approx(math.log(4))


def test_a_smoothed_target_is_the_cross_entropy_with_that_probability() -> None:
    real, fake = torch.randn(7, generator=torch.Generator().manual_seed(1)), torch.zeros(1)
    expected = F.binary_cross_entropy_with_logits(real, torch.full((7,), 0.9)) + math.log(2)
    assert float(discriminator_loss(real, fake, 0.9)) == pytest.approx(float(expected), rel=1e-6)


def test_the_generator_s_losses_by_hand() -> None:
    fake = torch.cat([logit(0.3), logit(0.9)])
    assert float(minimax_generator_loss(fake)) == pytest.approx((math.log(0.7) + math.log(0.1)) / 2, rel=1e-5)
    assert float(non_saturating_generator_loss(fake)) == pytest.approx(-(math.log(0.3) + math.log(0.9)) / 2, rel=1e-5)


def test_losses_stay_finite_where_probabilities_would_be_0_or_1() -> None:
    # log(sigmoid(-200)) in single precision is minus infinity, and its gradient not a number.
    real, fake = torch.tensor([-200.0], requires_grad=True), torch.tensor([200.0], requires_grad=True)
    loss = discriminator_loss(real, fake)
    assert float(loss.detach()) == pytest.approx(400.0)
    assert slope(loss, real) == pytest.approx(-1.0)
    low = torch.tensor([-200.0], requires_grad=True)
    assert float(non_saturating_generator_loss(low.detach())) == pytest.approx(200.0)
    assert slope(non_saturating_generator_loss(low), low) == pytest.approx(-1.0)


def test_narrow_logits_are_widened_before_they_are_summed() -> None:
    logits = torch.linspace(-3, 3, 512)
    assert discriminator_loss(logits.bfloat16(), logits.bfloat16()).dtype == torch.float32
    assert wasserstein_critic_loss(logits.bfloat16(), logits.bfloat16()).dtype == torch.float32


def test_a_sure_discriminator_stops_the_minimax_generator_and_drives_the_other() -> None:
    fake = torch.tensor([-10.0], requires_grad=True)  # D(G(z)) = 0.000045
    assert slope(minimax_generator_loss(fake), fake) == pytest.approx(-4.54e-5, rel=1e-2)
    assert slope(non_saturating_generator_loss(fake), fake) == pytest.approx(-1.0, rel=1e-3)


def test_both_generator_losses_push_the_logit_up() -> None:
    for value in (-2.0, 0.0, 2.0):
        fake = torch.tensor([value], requires_grad=True)
        assert slope(minimax_generator_loss(fake), fake) < 0
        assert slope(non_saturating_generator_loss(fake), fake) < 0


def test_the_two_generator_losses_agree_in_slope_where_the_discriminator_is_undecided() -> None:
    fake = torch.zeros(1, requires_grad=True)
    assert slope(minimax_generator_loss(fake), fake) == slope(non_saturating_generator_loss(fake), fake) == -0.5


def test_wasserstein_losses_by_hand() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -0.5, 3.0])
    assert float(wasserstein_critic_loss(real, fake)) == -1.0
    assert float(wasserstein_generator_loss(fake)) == -1.0


def test_a_point_between_two_images_has_one_weight_for_all_of_its_pixels() -> None:
    real, fake = torch.ones(3, 2, 4, 5), torch.zeros(3, 2, 4, 5)
    weights = torch.tensor([0.0, 0.25, 1.0])
    between = interpolate(real, fake, weights)
    assert between.shape == real.shape
    for point, weight in zip(between, weights, strict=True):
        assert torch.equal(point, torch.full_like(point, float(weight)))


def test_the_penalty_of_a_linear_critic_is_that_of_the_norm_of_its_weights() -> None:
    weights = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(2))
    points = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(3))

    def critic(images: Tensor) -> Tensor:
        return (images * weights).sum(dim=(1, 2, 3))

    expected = (float(weights.norm()) - 1) ** 2  # whatever the number of points
    assert float(gradient_penalty(critic, points).detach()) == pytest.approx(expected, rel=1e-5)
    assert float(gradient_penalty(critic, points[:1]).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_the_mean_of_each_sample_s_own() -> None:
    # f(x) = a |x|^2 / 2 has the gradient a x: norms 0.5, 1 and 3 give 0.25, 0 and 4.
    points = torch.tensor([[0.3, 0.4], [0.0, 1.0], [3.0, 0.0]])
    penalty = gradient_penalty(lambda x: x.square().sum(dim=1) / 2, points)
    assert float(penalty.detach()) == pytest.approx((0.25 + 0.0 + 4.0) / 3, rel=1e-5)


def test_the_penalty_teaches_the_critic_and_nobody_else() -> None:
    critic = nn.Linear(5, 1)
    points = torch.randn(4, 5, requires_grad=True)
    gradient_penalty(lambda x: critic(x).squeeze(1), points).backward()
    # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|
    weight = critic.weight.detach()
    torch.testing.assert_close(critic.weight.grad, 2 * (weight.norm() - 1) * weight / weight.norm())
    assert points.grad is None


def test_a_flat_critic_has_a_penalty_of_1_and_a_finite_gradient() -> None:
    weight = torch.zeros(4, requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ weight, torch.randn(3, 4))
    penalty.backward()
    assert float(penalty.detach()) == pytest.approx(1.0, abs=1e-5)
    assert weight.grad is not None and bool(torch.isfinite(weight.grad).all())


def test_the_penalty_at_real_images_of_a_linear_discriminator_is_half_its_squared_weights() -> None:
    # D(x) = w x: the gradient is w at every image, and |(3, 4)|^2 / 2 = 12.5 (Mescheder et al. 2018, equation 9).
    weights = torch.tensor([[3.0, 4.0]], requires_grad=True)
    penalty = real_gradient_penalty(lambda images: images @ weights.T, torch.randn(5, 2))
    assert float(penalty.detach()) == pytest.approx(12.5)
    (slope_of_weights,) = torch.autograd.grad(penalty, weights)
    assert slope_of_weights.tolist() == [[3.0, 4.0]]  # so that it can be learned from


def test_the_penalty_at_real_images_is_the_mean_of_each_image_s_own() -> None:
    # D(x) = sum of x^2 / 2: the gradient is x itself.
    images = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    penalty = real_gradient_penalty(lambda x: x.square().sum(dim=1) / 2, images)
    assert float(penalty.detach()) == pytest.approx((1 + 9) / 2 / 2)
