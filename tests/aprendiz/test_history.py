from __future__ import annotations

import pytest
import torch

from aprendiz.errors import ConfigError
from aprendiz.history import History


def numbered(start: int, count: int = 8) -> tuple[torch.Tensor]:
    """A batch of `count` images of one pixel, numbered."""
    return (torch.arange(start, start + count, dtype=torch.float32).view(-1, 1, 1, 1),)


def history(capacity: int) -> History:
    return History(capacity, ((1, 1, 1),), (torch.float32,))


def test_half_of_a_batch_comes_from_the_history_and_half_is_new() -> None:
    memory, random = history(40), torch.Generator().manual_seed(1)
    for start in range(0, 800, 8):
        (mixed,) = memory.mix(numbered(start), random)
        old = int((mixed < start).sum())
        assert mixed.shape == (8, 1, 1, 1)
        assert old == (0 if start == 0 else 4)
        assert len(mixed.unique()) == 8


def test_half_of_a_batch_goes_in_and_nothing_is_lost_while_there_is_room() -> None:
    memory, random = history(40), torch.Generator().manual_seed(1)
    for start in range(0, 80, 8):
        memory.mix(numbered(start), random)
        assert memory.size == min(40, start // 2 + 4)
    kept = memory.rows[0].flatten()
    assert len(kept.unique()) == 40
    assert [int(((kept >= start) & (kept < start + 8)).sum()) for start in range(0, 80, 8)] == [4] * 10


def test_what_goes_in_replaces_rows_at_random_not_the_oldest() -> None:
    # After m batches of 4 new rows in 40, a row has survived with probability (1 - 4/40)^m.
    survivors = []
    for seed in range(200):
        memory, random = history(40), torch.Generator().manual_seed(seed)
        for start in range(0, 160, 8):
            memory.mix(numbered(start), random)
        survivors.append(float((memory.rows[0] < 80).sum()) / 40)  # of the 10 batches that filled it, 10 more later
    expected = (1 - 4 / 40) ** 10
    assert sum(survivors) / len(survivors) == pytest.approx(expected, abs=0.02)


def test_rows_of_several_tensors_stay_together() -> None:
    memory = History(16, ((1, 1, 1), ()), (torch.float32, torch.int64))
    random = torch.Generator().manual_seed(1)
    for start in range(0, 200, 8):
        images = numbered(start)[0]
        mixed, labels = memory.mix((images, images.flatten().long()), random)
        assert torch.equal(mixed.flatten().long(), labels)


def test_what_is_held_is_no_part_of_any_graph() -> None:
    memory, random = history(16), torch.Generator().manual_seed(1)
    images = numbered(0)[0].requires_grad_()
    memory.mix((images * 2,), random)
    (mixed,) = memory.mix((images * 3,), random)
    assert not memory.rows[0].requires_grad
    assert not mixed.requires_grad


def test_it_goes_on_exactly_from_its_state() -> None:
    one, random = history(12), torch.Generator().manual_seed(1)
    for start in range(0, 16, 8):
        one.mix(numbered(start), random)
    other = history(12)
    other.load_state_dict(one.state_dict())
    again = torch.Generator()
    again.set_state(random.get_state())
    for start in range(16, 64, 8):
        assert torch.equal(one.mix(numbered(start), random)[0], other.mix(numbered(start), again)[0])


def test_a_history_smaller_than_half_a_batch_is_used_up_whole() -> None:
    memory, random = history(2), torch.Generator().manual_seed(1)
    memory.mix(numbered(0), random)
    (mixed,) = memory.mix(numbered(8), random)
    assert memory.size == 2
    assert int((mixed < 8).sum()) == 2


def test_rows_are_drawn_once_each_and_taken_in_whole() -> None:
    memory, random = history(6), torch.Generator().manual_seed(1)
    memory.add(numbered(0, 4), random)
    assert sorted(memory.sample(4, random)[0].flatten().tolist()) == [0, 1, 2, 3]
    memory.add(numbered(10, 4), random)  # two find room, two take the place of others
    (rows,) = memory.sample(9, random)
    assert memory.size == len(rows) == len(rows.unique()) == 6
    assert int((rows >= 10).sum()) == 4


def test_a_history_of_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        history(0)
