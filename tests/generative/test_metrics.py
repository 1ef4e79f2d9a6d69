"""FID, precision and recall, class balance and linear probes against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from aprendiz.errors import ConfigError
from generative.metrics import class_balance, fid, frechet_distance, linear_probe, precision_recall
from generative.metrics.neighbours import squared_radii


def covariance(generator: np.random.Generator, size: int) -> np.ndarray:
    root = generator.standard_normal((size, size))
    return root @ root.T / size


def test_distance_between_gaussians_of_one_dimension():
    # (m_a - m_b)^2 + (s_a - s_b)^2
    assert frechet_distance([1.0], [[4.0]], [4.0], [[25.0]]) == pytest.approx(9 + 9)


def test_distance_between_gaussians_whose_covariances_commute():
    # 3^2 + 4^2 of the means; (3-1)^2 + (2-2)^2 of the deviations along common axes, turned by 30 degrees
    turn = np.array([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    a, b = turn @ np.diag([9.0, 4.0]) @ turn.T, turn @ np.diag([1.0, 4.0]) @ turn.T
    assert frechet_distance([0, 0], a, [3, 4], b) == pytest.approx(25 + 4)


def test_distance_between_gaussians_whose_covariances_do_not_commute():
    # A = [[2, 1], [1, 2]], B = diag(1, 4): tr AB = 10, det AB = 12, so tr sqrt(AB) = sqrt(10 + 2 sqrt(12))
    a, b = np.array([[2.0, 1.0], [1.0, 2.0]]), np.diag([1.0, 4.0])
    expected = 4 + 5 - 2 * math.sqrt(10 + 2 * math.sqrt(12))
    assert frechet_distance([0, 0], a, [0, 0], b) == pytest.approx(expected, abs=1e-12)


def test_distance_equals_the_matrix_root_of_scipy():
    generator = np.random.default_rng(0)
    a, b = covariance(generator, 40), covariance(generator, 40)
    means = generator.standard_normal((2, 40))
    root = scipy.linalg.sqrtm(a @ b).real
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(a + b - 2 * root)
    assert frechet_distance(means[0], a, means[1], b) == pytest.approx(expected, rel=1e-9)


def test_distance_is_symmetric_and_does_not_change_under_a_rotation_and_a_shift():
    generator = np.random.default_rng(1)
    a, b = generator.standard_normal((300, 8)), 2 * generator.standard_normal((200, 8)) + 1
    turn, _ = np.linalg.qr(generator.standard_normal((8, 8)))
    expected = fid(a, b)
    assert fid(b, a) == pytest.approx(expected, rel=1e-10)
    assert fid(a @ turn + 100, b @ turn + 100) == pytest.approx(expected, rel=1e-8)


def test_covariances_divide_by_one_less_than_the_number_of_images():
    # 0 and 2 against 0, 2, 4: variances 2 and 4 with N - 1 (1 and 8/3 with N), means 1 and 2
    assert fid([[0.0], [2.0]], [[0.0], [2.0], [4.0]]) == pytest.approx(1 + (2 - math.sqrt(2)) ** 2)


def test_equal_sets_are_at_distance_0_though_some_units_are_always_off_and_images_few():
    features = np.random.default_rng(2).standard_normal((5, 30))
    features[:, 10:20] = 0
    assert fid(features, features) == pytest.approx(0, abs=1e-9)
    assert fid(features, np.zeros((5, 30))) == pytest.approx(
        np.sum(features.mean(0) ** 2) + np.sum(features.var(0, ddof=1)), rel=1e-9
    )


def test_large_features_of_float32_lose_nothing():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2_000, 6, generator=generator) + 4_096 for _ in range(2))
    assert fid(a, b) == pytest.approx(fid(a - 4_096, b - 4_096), rel=1e-6)  # these differences are exact


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "features of 3 and of 4"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "two images or more"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "5 of 5 images have features that are infinite or not a number"),
    ],
)
def test_features_that_cannot_be_compared_are_named(a, b, message):
    with pytest.raises(ConfigError, match=message):
        fid(a, b)


def test_precision_and_recall_on_a_line():
    # k = 1. Real 0, 1, 3, 7 have radii 1, 1, 2, 4: balls [-1, 1], [0, 2], [1, 5], [3, 11].
    # Samples 11, 11.5, -2, 4 have radii 0.5, 0.5, 6, 6: balls [10.5, 11.5], [11, 12], [-8, 4], [-2, 10].
    real, fake = ([[float(x)] for x in row] for row in ([0, 1, 3, 7], [11, 11.5, -2, 4]))
    assert precision_recall(real, fake, k=1) == (0.5, 1.0)  # 11 (on the surface) and 4; all of the real ones


def test_the_radius_reaches_to_the_third_neighbour_and_not_to_oneself():
    real = [[0.0], [1.0], [2.0], [3.0]]  # radii with k = 3: 3, 2, 2, 3
    for x, inside in ((-3.0, True), (-3.1, False), (6.0, True), (6.1, False)):
        fake = [[x], [1.0], [1.5], [2.0]]
        assert precision_recall(real, fake, k=3).precision == (1.0 if inside else 0.75)


def test_precision_and_recall_do_not_depend_on_the_chunks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(200, 4, generator=generator), 1.3 * torch.randn(150, 4, generator=generator)
    whole = precision_recall(real, fake)
    distances = torch.cdist(real.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    radius = distances.sort(dim=1).values[:, 3]
    inside = torch.cdist(fake.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist") <= radius
    assert whole.precision == pytest.approx(float(inside.any(1).double().mean()))
    monkeypatch.setattr("generative.metrics.neighbours.CHUNK", 7)
    assert precision_recall(real, fake) == whole


def test_one_real_image_drawn_again_and_again_is_precise_and_covers_that_image_alone():
    real = torch.randn(100, 16, generator=torch.Generator().manual_seed(0)) + 1_000
    assert precision_recall(real, real[:1].repeat(100, 1)) == (1.0, 0.01)


def test_the_distance_between_copies_is_exactly_0():
    images = 1_000 + torch.randn(50, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert squared_radii(images.repeat(4, 1), 3).tolist() == [0.0] * 200
    assert squared_radii(images, 3).min() > 1


def test_half_of_the_modes_gives_half_of_the_recall():
    generator = torch.Generator().manual_seed(0)
    centres = 100 * torch.eye(10)
    real = centres.repeat(30, 1) + torch.randn(300, 10, generator=generator)
    fake = centres[:5].repeat(60, 1) + torch.randn(300, 10, generator=generator)
    found = precision_recall(real, fake)
    assert found.precision > 0.8
    assert 0.4 < found.recall <= 0.5


def test_too_few_images_for_k_neighbours_is_an_error():
    with pytest.raises(ConfigError, match="more than k images, got 3 and 9"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))


def test_class_balance_by_hand():
    logits = torch.tensor([[9.0, 0, 0, 0], [9, 0, 0, 0], [0, 1, 0, 0], [0, 0, 9, 0]])
    found = class_balance(logits)
    assert found.shares == (0.5, 0.25, 0.25, 0.0)
    assert found.deviation == pytest.approx(1.0)  # twice its part, and none of it
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert found.confident == 0.75  # e / (e + 3) = 0.48 is not 0.9


def test_equal_parts_and_a_single_class_are_the_ends_of_balance():
    equal, single = class_balance(20 * torch.eye(10)), class_balance(20 * torch.eye(10)[:1].repeat(50, 1))
    assert (equal.deviation, equal.entropy) == (pytest.approx(0), pytest.approx(math.log(10)))
    assert (single.deviation, single.entropy) == (pytest.approx(9), pytest.approx(0))


def codes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    return np.eye(3)[labels] + 0.1 * generator.standard_normal((count, 3)), labels


def test_linear_codes_are_read_off_and_shuffled_labels_are_not():
    train, validation, test = codes(300, 0), codes(100, 1), codes(100, 2)
    assert linear_probe(train, validation, test).accuracy == 1.0
    shuffled = np.random.default_rng(3).permutation(test[1])
    assert linear_probe(train, validation, (test[0], shuffled)).accuracy < 0.5


def test_units_of_the_codes_do_not_matter_to_a_probe():
    def informative_but_small(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, count)
        signal, noise = labels + 0.1 * generator.standard_normal(count), generator.standard_normal(count)
        return np.stack([1e-4 * signal + 7, 1e4 * noise], 1), labels

    parts = [informative_but_small(count, seed) for seed, count in enumerate((300, 100, 100))]
    assert linear_probe(*parts).accuracy > 0.95


def test_the_penalty_is_chosen_on_validation_codes_and_never_on_test_codes():
    train, validation = codes(60, 0), codes(60, 1)
    nonsense = (np.zeros((10, 3)), np.arange(10) % 3)
    assert linear_probe(train, validation, nonsense).strength == linear_probe(train, validation, validation).strength
    misled = (validation[0], (validation[1] + 1) % 3)
    assert linear_probe(train, misled, validation).validation_accuracy < 0.5


def test_a_probe_fits_no_more_codes_than_it_says(monkeypatch):
    monkeypatch.setattr("generative.metrics.probe.LARGEST", 50)
    found = linear_probe(codes(300, 0), codes(100, 1), codes(100, 2))
    assert found.train_codes == 50
    assert found.accuracy > 0.95
