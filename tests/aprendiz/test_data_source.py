"""Batches of a data set: every image once an epoch, and after an interruption the very same ones."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aprendiz.data.augment import Augment
from aprendiz.data.core import Images, ImageSpec
from aprendiz.data.images import ArrayImages, ScaledImages, Subset, rescaled, subset
from aprendiz.data.prefetch import Prefetcher
from aprendiz.data.scaling import Scaling
from aprendiz.data.source import DataSource
from aprendiz.errors import ConfigError, DataError

EVERYTHING = Augment(flip_horizontal=True, shift_pixels=1, crop=0.8, rotation_degrees=10, brightness=0.1, contrast=0.1)


class SlowImages:
    """Images that are not in memory, and that take a random time to be read."""

    def __init__(self, images: ArrayImages, fails_at: int = -1) -> None:
        self.images, self.spec, self.labels, self.scaling = images, images.spec, images.labels, images.scaling
        self.fails_at = fails_at
        self.reads = 0
        self.jitter = np.random.default_rng()

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: Any) -> Tensor:
        time.sleep(self.jitter.random() * 0.003)
        self.reads += 1
        if self.reads == self.fails_at:
            raise DataError("the disk is on fire")
        return self.images.pixels(indices)

    def scaled(self, indices: Any) -> Tensor:
        return self.scaling.to_model(self.pixels(indices))


def numbered(count: int) -> ArrayImages:
    """Images whose pixels tell their number, and whose label is it."""
    pixels = torch.arange(count)[:, None, None, None].expand(count, 1, 4, 4) % 256
    spec = ImageSpec(name="numbered", channels=1, height=4, width=4, classes=tuple(map(str, range(count))))
    return ArrayImages(spec, pixels.to(torch.uint8), torch.arange(count))


def images(count: int, kind: str) -> Images:
    return numbered(count) if kind == "in memory" else SlowImages(numbered(count))


KINDS = ("in memory", "streamed")


def take(source: DataSource, batches: int) -> list[tuple[Tensor, Tensor]]:
    result = []
    for _ in range(batches):
        batch = source.next().batch
        result.append((batch.images, batch.labels))
    return result


def same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_shows_every_image_once_and_the_next_one_in_another_order(kind: str) -> None:
    source = DataSource(images(30, kind), batch_size=10, seed=0)
    epochs = [torch.cat([labels for _, labels in take(source, 3)]).tolist() for _ in range(3)]
    source.close()
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_scaled_once_and_come_with_their_labels(kind: str) -> None:
    source = DataSource(images(30, kind), batch_size=7, seed=0)
    for pixels, labels in take(source, 8):
        assert pixels.dtype == torch.float32 and pixels.shape == (7, 1, 4, 4) and labels.dtype == torch.int64
        assert torch.equal(pixels[:, 0, 0, 0], labels / 255)
    source.close()


@pytest.mark.parametrize("augment", [None, EVERYTHING], ids=["plain", "augmented"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [0, 1, 3, 4, 9])
def test_an_interrupted_run_sees_what_an_uninterrupted_one_does(kind: str, augment: Augment | None, stop: int) -> None:
    def fresh() -> DataSource:
        return DataSource(images(33, kind), batch_size=8, seed=3, augment=augment)

    whole, before, after = fresh(), fresh(), fresh()
    expected = take(whole, 14)
    found = take(before, stop)
    after.load_state_dict(before.state_dict())
    found += take(after, 14 - stop)
    assert same(found, expected)
    assert after.state_dict() == whole.state_dict() and after.metrics() == whole.metrics()
    for source in (whole, before, after):
        source.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_can_be_taken_back_to_where_it_was(kind: str) -> None:
    source = DataSource(images(20, kind), batch_size=6, seed=0)
    take(source, 2)
    state = source.state_dict()
    expected = take(source, 5)
    source.load_state_dict(state)
    assert same(take(source, 5), expected)
    source.close()


def test_streamed_images_come_in_the_order_of_those_in_memory_whatever_the_timing() -> None:
    expected = take(DataSource(numbered(40), batch_size=6, seed=1, augment=EVERYTHING), 20)
    for prefetch in (1, 3, 50):
        source = DataSource(SlowImages(numbered(40)), batch_size=6, seed=1, augment=EVERYTHING, prefetch=prefetch)
        assert same(take(source, 20), expected)
        source.close()


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(0)
    first = take(DataSource(numbered(40), batch_size=6, seed=1, augment=EVERYTHING), 10)
    torch.manual_seed(1)
    assert same(take(DataSource(numbered(40), batch_size=6, seed=1, augment=EVERYTHING), 10), first)
    assert not same(take(DataSource(numbered(40), batch_size=6, seed=2, augment=EVERYTHING), 10), first)


def test_an_image_is_augmented_differently_in_every_epoch() -> None:
    source = DataSource(numbered(8), batch_size=8, seed=0, augment=Augment(brightness=0.5), shuffle=False)
    first, second = take(source, 2)
    assert torch.equal(first[1], second[1]) and not torch.equal(first[0], second[0])


def test_augmented_images_are_scaled_like_the_others() -> None:
    data = numbered(64)
    seen = rescaled(data, data.spec, Scaling("standard").fit(data))
    plain = take(DataSource(seen, batch_size=64, seed=0), 1)
    barely = take(DataSource(seen, batch_size=64, seed=0, augment=Augment(brightness=1e-7)), 1)
    assert torch.allclose(plain[0][0], barely[0][0], atol=1e-4) and float(plain[0][0].min()) < -1


@pytest.mark.parametrize("kind", KINDS)
def test_the_budget_is_never_passed_and_nothing_is_seen_twice_or_lost_where_it_ends(kind: str) -> None:
    source = DataSource(images(30, kind), batch_size=10, seed=0)
    first = source.next(14)
    second = source.next(14 - first.units)
    assert (first.units, second.units) == (10, 4) and len(second.batch.images) == 4
    rest = [source.next() for _ in range(2)]
    assert [work.units for work in rest] == [10, 6]
    works = [first, second, *rest]
    assert sorted(torch.cat([work.batch.labels for work in works]).tolist()) == list(range(30))
    source.close()


def test_a_single_image_that_the_budget_leaves_over_is_not_learned_from() -> None:
    source = DataSource(numbered(30), batch_size=10, seed=0)
    work = source.next(1)
    assert work.batch is None and work.units == 1 and source.position == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [8, 8, 8, 8]), (False, [8, 8, 4, 8])])
def test_what_fills_no_batch_is_dropped_or_kept(kind: str, drop_last: bool, sizes: list[int]) -> None:
    source = DataSource(images(20, kind), batch_size=8, seed=0, drop_last=drop_last)
    assert [len(labels) for _, labels in take(source, 4)] == sizes
    source.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 5])
def test_fewer_images_than_a_batch_are_a_batch(kind: str, count: int) -> None:
    source = DataSource(images(count, kind), batch_size=64, seed=0)
    for _, labels in take(source, 3):
        assert sorted(labels.tolist()) == list(range(count))
    source.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_image_comes_twice_so_that_layers_can_normalise(kind: str) -> None:
    source = DataSource(images(1, kind), batch_size=64, seed=0)
    assert [len(labels) for _, labels in take(source, 2)] == [2, 2]
    source.close()


def test_without_shuffling_images_come_in_their_order() -> None:
    source = DataSource(numbered(10), batch_size=5, seed=0, shuffle=False)
    assert torch.cat([labels for _, labels in take(source, 2)]).tolist() == list(range(10))


def test_a_batch_size_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        DataSource(numbered(10), batch_size=0, seed=0)
    with pytest.raises(ConfigError, match="no images to learn from"):
        DataSource(numbered(0), batch_size=2, seed=0)


# The background thread


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "aprendiz-prefetch"]


def test_no_more_is_read_ahead_than_asked_for() -> None:
    slow = SlowImages(numbered(100))
    source = DataSource(slow, batch_size=2, seed=0, prefetch=3)
    take(source, 2)
    time.sleep(0.3)
    assert slow.reads <= 2 + 3 + 1  # handed out, waiting, and one that waits for room
    source.close()


def test_closing_ends_the_thread() -> None:
    source = DataSource(SlowImages(numbered(100)), batch_size=2, seed=0)
    take(source, 2)
    assert len(readers()) == 1
    source.close()
    assert readers() == []
    take(source, 2)  # starts another one
    source.close()
    assert readers() == []


def test_a_source_that_is_forgotten_takes_its_thread_along() -> None:
    source = DataSource(SlowImages(numbered(100)), batch_size=2, seed=0)
    take(source, 2)
    del source
    gc.collect()
    assert readers() == []


def test_an_error_while_reading_comes_out_where_the_batch_was_due() -> None:
    source = DataSource(SlowImages(numbered(100), fails_at=4), batch_size=2, seed=0, prefetch=8)
    take(source, 3)
    with pytest.raises(DataError, match="the disk is on fire"):
        source.next()
    assert readers() == []


def test_a_plan_that_ends_says_so() -> None:
    ahead = Prefetcher(iter([lambda: 1, lambda: 2]), depth=5)
    assert [ahead.get(), ahead.get()] == [1, 2]
    with pytest.raises(StopIteration):
        ahead.get()


# Views


def test_some_of_the_images_keep_labels_and_scaling() -> None:
    data = numbered(20)
    seen = rescaled(data, data.spec, Scaling("min-max").fit(data))
    for some in (
        subset(seen, [3, 5, 19]),
        Subset(seen, [3, 5, 19]),
        subset(ScaledImages(data, data.spec, seen.scaling), [3, 5, 19]),
    ):
        assert len(some) == 3 and some.labels is not None and some.labels.tolist() == [3, 5, 19]
        assert some.pixels([2, 0])[:, 0, 0, 0].tolist() == [19, 3]
        assert some.pixels(slice(1, None))[:, 0, 0, 0].tolist() == [5, 19]
        assert torch.allclose(some.scaled(slice(None))[:, 0, 0, 0], torch.tensor([3.0, 5.0, 19.0]) / 19)


def test_arrays_that_do_not_fit_their_description_are_refused() -> None:
    spec = ImageSpec(name="x", channels=1, height=4, width=4)
    with pytest.raises(DataError, match="uint8"):
        ArrayImages(spec, torch.zeros(3, 1, 4, 4))
    with pytest.raises(DataError, match="3 images and 2 labels"):
        ArrayImages(spec, torch.zeros(3, 1, 4, 4, dtype=torch.uint8), [0, 1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("augment", [None, EVERYTHING], ids=["plain", "augmented"])
def test_a_gpu_is_given_what_a_cpu_is(kind: str, augment: Augment | None) -> None:
    on_cpu = take(DataSource(images(40, kind), batch_size=6, seed=1, augment=augment), 15)
    source = DataSource(images(40, kind), batch_size=6, seed=1, augment=augment, device="cuda")
    for (pixels, labels), (expected, known) in zip(take(source, 15), on_cpu, strict=True):
        assert pixels.is_cuda and labels.is_cuda and torch.equal(labels.cpu(), known)
        assert torch.allclose(pixels.cpu(), expected, atol=1e-5)
    source.close()


def test_pictures_on_a_gpu_are_not_pinned_whatever_its_name() -> None:
    """`cuda` and `cuda:0` are the same place, and are not equal."""

    class OnGPU:
        device = torch.device("cuda:0")

    source = DataSource(images(8, "in memory"), batch_size=4, seed=1)
    source.device = torch.device("cuda")
    pixels: Any = OnGPU()
    source.images.scaling.to_model = lambda given: given  # type: ignore[method-assign,assignment,return-value]
    assert source._scaled(pixels) is pixels


def test_labels_are_beside_the_learner_also_where_the_pictures_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataSource, "_resident", lambda self: self.images.array)
    batch = DataSource(images(8, "in memory"), batch_size=4, seed=1, device="meta").next().batch
    assert batch.images.device == batch.labels.device == torch.device("meta")
