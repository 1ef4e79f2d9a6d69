from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from language import word2vec_kernels as kernels
from language import word2vec_torch as torch_path
from language.huffman import huffman_tree
from language.lanes import LANES
from language.word2vec_draws import Examples

V, D = 20, 21
ROW = 2 * LANES


def example(negatives: int, *, seed: int = 0, examples: int = 1) -> Examples:
    """A window with a word that stands in it twice, negatives that occur twice, and one that is the centre."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(2, V, size=(examples, negatives)).astype(np.int32)
    centres = generator.integers(2, V, size=examples).astype(np.int32)
    if negatives > 3:
        noise[:, 1], noise[:, negatives - 1] = noise[:, 0], noise[:, 0]
        noise[:, 2] = centres
    contexts = generator.integers(2, V, size=(examples, 6)).astype(np.int32)
    contexts[:, 3] = contexts[:, 1]
    sizes = np.full(examples, 5, np.int32)
    return Examples(np.arange(examples) * 64, centres, sizes, contexts, noise)


def tables(dtype: Any, output_rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    generator = np.random.default_rng(1)
    inputs, outputs = np.zeros((V, ROW), dtype), np.zeros((output_rows + 1, ROW), dtype)
    inputs[:, :D] = generator.normal(size=(V, D))
    outputs[:-1, :D] = generator.normal(size=(output_rows, D))
    return inputs, outputs


COUNTS = np.array([0, 0, *range(3, 21)])
TREE = huffman_tree(COUNTS)


def learn(
    objective: str,
    made: Examples,
    inputs: Any,
    outputs: Any,
    *,
    cbow: bool = False,
    mean: bool = True,
    exact: bool = False,
    rate: float = 1.0,
) -> tuple[float, int]:
    """The kernel, on the tables as they are; every loss is measured."""
    flat = inputs.reshape(-1), outputs.reshape(-1), ROW, len(made.centres)
    how = cbow, mean, exact, rate, rate, 1.0, 1
    drawn = made[:4]
    if objective == "negative":
        return kernels.learn_negative(*flat, *drawn, made.noise, *how)
    if objective == "hierarchical":
        return kernels.learn_hierarchical(*flat, *drawn, TREE.lengths, TREE.nodes, TREE.bits, *how)
    return kernels.learn_softmax(*flat, *drawn, *how)


def reference(
    objective: str, made: Examples, inputs: Any, outputs: Any, *, cbow: bool = False, mean: bool = True
) -> Any:
    """Loss of the torch path, and its gradients by autograd."""
    x = torch.tensor(inputs[:, :D], requires_grad=True)
    y = torch.tensor(outputs[:-1, :D], requires_grad=True)
    way = torch_path.way_of(TREE, "cpu", x.dtype) if objective == "hierarchical" else None
    kind: dict[str, Any] = {"architecture": "cbow" if cbow else "skip-gram", "objective": objective, "way": way}
    loss, count = torch_path.loss(x, y, torch_path.batch_of(made, "cpu"), mean=mean, **kind)
    loss.backward()
    return float(loss.detach()), int(count), x.grad.numpy(), y.grad.numpy()  # type: ignore[union-attr]


CASES = [("negative", 5), ("negative", 12), ("negative", 1), ("hierarchical", 0), ("softmax", 0)]


HOW = [{}, {"cbow": True}, {"cbow": True, "mean": False}]


@pytest.mark.parametrize("how", HOW, ids=["skip-gram", "cbow", "cbow's sum"])
@pytest.mark.parametrize(("objective", "negatives"), CASES)
def test_in_float64_the_kernel_moves_by_the_gradient_of_torch(
    objective: str, negatives: int, how: dict[str, bool]
) -> None:
    made = example(negatives)
    before = tables(np.float64, TREE.inner_nodes if objective == "hierarchical" else V)
    after = tuple(table.copy() for table in before)
    loss, count = learn(objective, made, *after, exact=True, **how)
    expected_loss, expected_count, x_gradient, y_gradient = reference(objective, made, *before, **how)
    assert (loss, count) == (pytest.approx(expected_loss, rel=1e-12), expected_count)
    assert np.abs(before[0][:, :D] - after[0][:, :D] - x_gradient).max() < 1e-9
    assert np.abs(before[1][:-1, :D] - after[1][:-1, :D] - y_gradient).max() < 1e-9
    assert np.abs(x_gradient).max() > 0.1 and np.abs(y_gradient).max() > 0.1
    assert not after[0][:, D:].any() and not after[1][:, D:].any() and not after[1][-1].any()


@pytest.mark.parametrize("how", HOW, ids=["skip-gram", "cbow", "cbow's sum"])
@pytest.mark.parametrize(("objective", "negatives"), [("negative", 5), ("hierarchical", 0), ("softmax", 0)])
@pytest.mark.parametrize("exact", [False, True])
def test_a_step_of_torch_is_a_step_of_the_kernel(
    objective: str, negatives: int, how: dict[str, bool], exact: bool
) -> None:
    made = example(negatives, seed=2)
    inputs, outputs = tables(np.float64, TREE.inner_nodes if objective == "hierarchical" else V)
    x, y = torch.tensor(inputs[:, :D]), torch.tensor(outputs[:-1, :D])
    loss, count = learn(objective, made, inputs, outputs, exact=exact, rate=0.3, **how)
    way = torch_path.way_of(TREE, "cpu", torch.float64) if objective == "hierarchical" else None
    kind: dict[str, Any] = {
        "architecture": "cbow" if how.get("cbow") else "skip-gram", "objective": objective, "way": way,
        "mean": how.get("mean", True),
    }  # fmt: skip
    torch_loss, torch_count = torch_path.step(x, y, torch_path.batch_of(made, "cpu"), 0.3, exact=exact, **kind)
    assert (loss, count) == (pytest.approx(float(torch_loss), rel=1e-12), int(torch_count))
    assert np.abs(inputs[:, :D] - x.numpy()).max() < 1e-9
    assert np.abs(outputs[:-1, :D] - y.numpy()).max() < 1e-9


@pytest.mark.parametrize(("objective", "negatives"), [("negative", 5), ("hierarchical", 0), ("softmax", 0)])
@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_gradients_are_those_of_the_loss_by_small_differences(
    objective: Any, negatives: int, architecture: Any
) -> None:
    batch = torch_path.batch_of(example(negatives, examples=2), "cpu")
    way = torch_path.way_of(TREE, "cpu", torch.float64) if objective == "hierarchical" else None
    generator = torch.Generator().manual_seed(0)
    shapes = ((V, 3), (TREE.inner_nodes if way is not None else V, 3))
    x, y = (torch.randn(*s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes)
    assert torch.autograd.gradcheck(
        lambda x, y: torch_path.loss(x, y, batch, architecture=architecture, objective=objective, way=way)[0], (x, y)
    )


def test_the_gradients_of_a_batch_are_summed() -> None:
    """Twice the same example moves twice as far."""
    made = example(5)
    twice = Examples(*(np.concatenate([array, array]) for array in made))
    moves = []
    for batch in (made, twice):
        x, y = (torch.tensor(table[:V, :D]) for table in tables(np.float64, V))
        first = x.clone()
        torch_path.step(x, y, torch_path.batch_of(batch, "cpu"), 0.1, architecture="skip-gram", objective="negative")
        moves.append(x - first)
    torch.testing.assert_close(moves[1], 2 * moves[0])


def test_examples_are_learned_one_after_the_other() -> None:
    made = example(5, examples=3)
    together, one_by_one = tables(np.float64, V), tables(np.float64, V)
    learn("negative", made, *together)
    for number in range(3):
        learn("negative", Examples(*(array[number : number + 1] for array in made)), *one_by_one)
    assert all((a == b).all() for a, b in zip(together, one_by_one, strict=True))


@pytest.mark.parametrize("cbow", [False, True], ids=["skip-gram", "cbow"])
def test_float32_agrees_with_float64_as_well_as_it_can(cbow: bool) -> None:
    exact, quick = tables(np.float64, V), tables(np.float32, V)
    learn("negative", example(5), *exact, cbow=cbow, rate=0.025)
    learn("negative", example(5), *quick, cbow=cbow, rate=0.025)
    for a, b in zip(exact, quick, strict=True):
        assert np.abs(a - b).max() < 2e-6


def test_every_vector_of_a_cbow_context_moves_by_the_whole_gradient_of_the_mean_unless_told_otherwise() -> None:
    made = example(5)
    before = tables(np.float64, V)[0]
    whole, exact = tables(np.float64, V), tables(np.float64, V)
    learn("negative", made, *whole, cbow=True)
    learn("negative", made, *exact, cbow=True, exact=True)
    assert np.abs((whole[0] - before) - 5 * (exact[0] - before)).max() < 1e-9
    assert (whole[1] == exact[1]).all()


def test_the_rate_falls_linearly_to_the_last_and_stays_there() -> None:
    moves = []
    for place in (0, 50, 100, 1000):
        made = example(5)._replace(places=np.array([place]))
        inputs, outputs = tables(np.float64, V)
        before = inputs.copy()
        flat = inputs.reshape(-1), outputs.reshape(-1), ROW, 1, *made
        kernels.learn_negative(*flat, False, True, False, 0.5, 0.1, 100.0, 64)
        moves.append(np.abs(inputs - before).max())
    assert np.array(moves) / moves[0] == pytest.approx([1.0, 0.6, 0.2, 0.2])
