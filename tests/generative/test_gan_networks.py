from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aprendiz.data.core import ImageSpec
from generative.gan_networks import ConvDiscriminator, ConvGenerator, DenseGenerator, Maxout, doublings, dropout


def spec_of(size: int, channels: int = 1) -> ImageSpec:
    return ImageSpec(name="images", channels=channels, height=size, width=size)


@pytest.mark.parametrize(("size", "times"), [(4, 2), (8, 2), (16, 2), (28, 3), (32, 3), (63, 4), (64, 4), (128, 5)])
def test_images_grow_from_a_grid_of_about_four(size: int, times: int) -> None:
    assert doublings(spec_of(size)) == times


def test_the_generator_of_the_paper_s_figure() -> None:
    generator = ConvGenerator(spec_of(64, 3), latent=100, width=128)
    shapes: list[tuple[int, ...]] = []
    for layer in generator.layers:
        if isinstance(layer, nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape[1:])))
    generator(torch.zeros(2, 100))
    assert generator.grid == (4, 4, 1024)
    assert shapes == [(512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


def test_initial_weights_have_the_paper_s_deviation() -> None:
    torch.manual_seed(1)
    for network in (ConvGenerator(spec_of(28), 100, 32), ConvDiscriminator(spec_of(28), 32)):
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
            if isinstance(layer, nn.BatchNorm2d):
                assert float(layer.weight.detach().mean()) == pytest.approx(1.0, abs=0.02)


def test_without_batch_normalisation_a_critic_s_values_start_at_a_fair_size() -> None:
    torch.manual_seed(1)
    images = torch.rand(50, 1, 28, 28) * 2 - 1
    values = ConvDiscriminator(spec_of(28), 32, norm="none")(images)
    assert 0.01 < float(values.detach().std()) < 10


def test_the_first_layer_of_the_discriminator_and_the_last_of_the_generator_are_not_normalised() -> None:
    discriminator, generator = ConvDiscriminator(spec_of(32), 8), ConvGenerator(spec_of(32), 10, 8)
    kinds = [type(layer).__name__ for layer in discriminator.layers]
    assert kinds[:3] == ["Conv2d", "LeakyReLU", "Conv2d"]
    assert [type(layer).__name__ for layer in generator.layers][-2:] == ["ReLU", "ConvTranspose2d"]
    assert kinds.count("BatchNorm2d") == 2


def test_the_grid_s_layout_keeps_every_number() -> None:
    generator = ConvGenerator(spec_of(8), latent=3, width=2)
    grid: list[Tensor] = []
    generator.layers.register_forward_pre_hook(lambda _, inputs: grid.append(inputs[0].clone()))
    latent = torch.randn(4, 3)
    generator(latent)
    assert grid[0].shape == (4, 4, 2, 2)
    assert torch.equal(grid[0].flatten(1).sort().values, generator.project(latent).sort().values)


def test_a_generator_crops_the_middle() -> None:
    torch.manual_seed(1)
    whole, part = ConvGenerator(spec_of(8), 3, 2).eval(), ConvGenerator(spec_of(6), 3, 2).eval()
    part.load_state_dict(whole.state_dict())
    latent = torch.randn(2, 3)
    assert torch.equal(part(latent), whole(latent)[:, :, 1:7, 1:7])


def test_labels_enter_by_an_inner_product() -> None:
    torch.manual_seed(1)
    network = ConvDiscriminator(spec_of(8), 4, classes=3)
    images = torch.randn(2, 1, 8, 8)
    labels = torch.tensor([2, 0])
    assert network.classes is not None
    network.eval()
    features = network.layers(images).flatten(1)
    expected = network.value(features).squeeze(1) + torch.stack(
        [features[i] @ network.classes.weight[label] for i, label in enumerate(labels)]
    )
    torch.testing.assert_close(network(images, labels), expected)


def test_maxout_takes_the_largest_of_its_pieces() -> None:
    layer = Maxout(2, units=2, pieces=3)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0], [2, 0], [0, 2], [0, -2]]))
    assert layer(torch.tensor([[1.0, -3.0]])).tolist() == [[1.0, 6.0]]


def test_a_dense_generator_draws_in_the_unit_interval() -> None:
    images = DenseGenerator(spec_of(5, 3), 7, (6,), batch_norm=False)(torch.randn(4, 7) * 100)
    assert images.shape == (4, 3, 5, 5)
    assert float(images.detach().min()) >= 0 and float(images.detach().max()) <= 1


def test_dropout_draws_from_the_generator_that_it_is_given_and_keeps_the_mean() -> None:
    ones = torch.ones(100_000)
    first, second = (dropout(ones, 0.2, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1.25}
    assert float(first.mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(dropout(ones, 0.0, torch.Generator()), ones)
