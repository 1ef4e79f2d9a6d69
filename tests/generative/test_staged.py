"""A source in stages: boundaries, labelled subsets, exact resuming."""

from __future__ import annotations

import numpy as np
import pytest

from aprendiz.data.build import from_arrays
from aprendiz.errors import ConfigError
from generative.fine_tuning import StagedConfig
from generative.staged import Stage, StagedSource, stage_boundaries


def images(count: int = 60, labels: bool = True):
    """Each image is told by its pixels, which all have its number."""
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 4, 4))
    classes = [str(i) for i in range(3)] if labels else []
    known = np.arange(count) % 3 if labels else None
    return from_arrays("numbers", pixels, known, classes=classes).train


def numbers(batch) -> list[int]:
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


STAGES = [
    Stage(name="layer-1", images=25, batch_size=10),
    Stage(name="layer-2", images=0, batch_size=10),
    Stage(name="layer-3", images=17, batch_size=8),
    Stage(name="fine-tune", images=20, batch_size=6, labelled=12),
]


def drawn(source: StagedSource, units: int) -> list[tuple[str, int, list[int]]]:
    record, seen = [], 0
    while seen < units:
        work = source.next(units - seen)
        assert work.safe_point
        seen += work.units
        if work.batch is not None:
            record.append((work.batch.stage, work.units, numbers(work.batch)))
    assert seen == units
    return record


def test_a_stage_ends_after_its_images_and_no_batch_reaches_over_its_end() -> None:
    record = drawn(StagedSource(images(), STAGES, seed=1), 70)
    sizes = {name: [units for stage, units, _ in record if stage == name] for name in ("layer-1", "layer-3")}
    assert sizes == {"layer-1": [10, 10, 5], "layer-3": [8, 8]}  # the 17th image alone is counted, and not learned from
    assert [stage for stage, _, _ in record if stage == "layer-2"] == []


def test_the_last_stage_goes_on_as_long_as_the_budget_does() -> None:
    record = drawn(StagedSource(images(), STAGES, seed=1), 42 + 200)
    assert sum(units for stage, units, _ in record if stage == "fine-tune") == 200


def test_the_labelled_subset_is_balanced_and_all_that_fine_tuning_sees() -> None:
    source = StagedSource(images(), STAGES, seed=1)
    record = drawn(source, 42 + 120)
    seen = {number for stage, _, those in record if stage == "fine-tune" for number in those}
    before = {number for stage, _, those in record if stage != "fine-tune" for number in those}
    assert len(seen) == 12
    assert np.bincount([number % 3 for number in seen]).tolist() == [4, 4, 4]
    assert len(before) > 30


def test_another_seed_labels_other_images() -> None:
    subsets = []
    for seed in (1, 2):
        record = drawn(StagedSource(images(), STAGES, seed=seed), 42 + 60)
        subsets.append({number for stage, _, those in record if stage == "fine-tune" for number in those})
    assert subsets[0] != subsets[1]


@pytest.mark.parametrize("until", [7, 10, 25, 30, 33, 42, 50])
def test_a_saved_source_goes_on_with_the_very_same_batches(until: int) -> None:
    whole = StagedSource(images(), STAGES, seed=3)
    drawn(whole, until)
    state = whole.state_dict()
    rest = drawn(whole, 90 - until)
    again = StagedSource(images(), STAGES, seed=3)
    again.load_state_dict(state)
    assert drawn(again, 90 - until) == rest


def test_leaving_out_pre_training_does_not_change_what_fine_tuning_sees() -> None:
    without = [Stage(name=s.name, images=0, batch_size=s.batch_size) for s in STAGES[:3]] + STAGES[3:]
    with_layers = drawn(StagedSource(images(), STAGES, seed=1), 42 + 60)[-10:]
    assert drawn(StagedSource(images(), without, seed=1), 60) == with_layers


def test_boundaries_sum_up_to_the_budget() -> None:
    assert stage_boundaries(1_000, [0.25, 0.25, 0.5]) == (250, 250, 500)
    assert sum(stage_boundaries(1_001, [1, 1, 1])) == 1_001
    with pytest.raises(ConfigError, match="share"):
        stage_boundaries(10, [0.0, 0.0])
    with pytest.raises(ConfigError, match="share"):
        stage_boundaries(10, [1.0, -0.5])


def test_shares_become_numbers_once_and_then_stay() -> None:
    config = StagedConfig(pretrain_share=0.6).resolved(3, 10_000)
    assert (config.pretrain_images, config.fine_tune_images) == (2_000, 4_000)
    assert config.resolved(3, 99_000) == config
    names = [(stage.name, stage.images) for stage in config.stages(3, 10)]
    assert names == [("layer-1", 2_000), ("layer-2", 2_000), ("layer-3", 2_000), ("fine-tune", 4_000)]


def test_without_pre_training_the_whole_budget_fine_tunes() -> None:
    config = StagedConfig(pretrain=False).resolved(3, 10_000)
    assert (config.pretrain_images, config.fine_tune_images) == (0, 10_000)


def test_without_fine_tuning_the_layers_have_the_whole_budget() -> None:
    config = StagedConfig(pretrain_share=0.5).resolved(2, 10_000, fine_tuned=False)
    assert (config.pretrain_images, config.fine_tune_images) == (5_000, 0)


def test_labels_are_asked_for_where_there_are_none() -> None:
    source = StagedSource(images(labels=False), STAGES, seed=1)
    with pytest.raises(ConfigError, match="no labels"):
        drawn(source, 60)


def test_a_checkpoint_of_unknown_stages_is_refused() -> None:
    source = StagedSource(images(), STAGES[2:], seed=1)
    with pytest.raises(ValueError, match="no stage 'layer-1'"):
        source.load_state_dict({"stage": "layer-1", "seen": 0, "source": {}})


def test_no_images_at_all_is_an_error() -> None:
    with pytest.raises(ConfigError, match="raise the budget"):
        StagedSource(images(), [Stage(name="layer-1", images=0, batch_size=4)], seed=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", 0),
        ("pretrain_share", 1.5),
        ("pretrain_images", -1),
        ("dropout", 1.0),
        ("input_dropout", -0.1),
        ("max_norm", 0.0),
        ("weight_decay", -1.0),
        ("ema_decay", 1.0),
        ("fine_tune_learning_rate", 0.0),
    ],
)
def test_values_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        StagedConfig(**{name: value})
