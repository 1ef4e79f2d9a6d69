from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams

from aprendiz.errors import ConfigError, StorageError
from language.word_map import _fonts, coordinates, draw


def clusters() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = np.eye(3, 8)
    return (np.repeat(centres, 12, axis=0) + 0.05 * generator.normal(size=(36, 8))).astype(np.float32)


@pytest.mark.parametrize("method", ["pca", "t-sne"])
def test_what_is_near_stays_near_and_the_seed_decides(method: str) -> None:
    vectors = clusters() * np.random.default_rng(1).uniform(0.1, 10, size=(36, 1)).astype(np.float32)
    places = coordinates(vectors, method, seed=1)  # type: ignore[arg-type]
    assert places.shape == (36, 2)
    distances = np.linalg.norm(places[:, None] - places, axis=2) + np.diag(np.full(36, np.inf))
    assert (distances.argmin(1) // 12 == np.arange(36) // 12).all()
    assert (places == coordinates(vectors, method, seed=1)).all()  # type: ignore[arg-type]


def test_pca_is_the_plane_of_greatest_variance() -> None:
    vectors = clusters()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(np.cov(units.T.astype(np.float64)))
    np.testing.assert_allclose(coordinates(vectors, "pca").var(0, ddof=1), values[[-1, -2]], rtol=1e-4)


def test_too_few_words_and_unknown_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3 words, got 2"):
        coordinates(clusters()[:2])
    with pytest.raises(ConfigError, match="pca, t-sne"):
        coordinates(clusters(), "umap")  # type: ignore[arg-type]
    assert coordinates(clusters()[:3]).shape == (3, 2)


def test_a_map_is_drawn_with_words_of_any_kind(tmp_path: Path) -> None:
    draw(["$x$", "naïve", "a_b"], np.array([[0, 0], [1, 1], [2, 0]]), tmp_path / "map.png", title="words")
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(StorageError, match="cannot write"):
        draw(["a"], np.zeros((1, 2)), tmp_path / "none" / "map.png")
    with pytest.raises(ConfigError, match="map"):
        draw(["a"], np.zeros((1, 2)), tmp_path / "map.mp3")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_characters_that_no_font_has_are_told_and_warn_of_nothing(suffix: str, tmp_path: Path) -> None:
    words = ["a", "\u0378 b", "\U000f1234"]  # not assigned, and of private use
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        drawn = draw(words, np.array([[0, 0], [1, 1], [2, 0]]), tmp_path / f"map.{suffix}", title="words \u0378")
    assert drawn == (0, "\u0378\U000f1234") and warned == []


def test_characters_that_the_usual_font_lacks_come_from_another() -> None:
    families, without_glyph = _fonts(set("a \u1d15\u1d24"))  # DejaVu Serif, which is there with matplotlib, has them
    assert len(families) > len(rcParams["font.family"]) and without_glyph == ""


def test_where_the_usual_font_has_all_characters_it_is_alone() -> None:
    assert _fonts(set("\n abc")) == (rcParams["font.family"], "")
