"""The recurrent backbone: its cells' equations, the compiled layers, the state that goes in and out."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary
from torch import Tensor, nn

from aprendiz import BACKBONES
from aprendiz.errors import ConfigError
from aprendiz.recurrent import Recurrent, detached, kept
from aprendiz.recurrent import network as module
from aprendiz.recurrent.cells import gru_step, lstm_step, rnn_step
from aprendiz.recurrent.fused import GRUSequence, LSTMSequence, RNNSequence
from aprendiz.recurrent.network import dropout

CELLS = ("rnn", "lstm", "gru")
THEIRS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def build(
    cell: Any, width: int = 5, units: int = 7, *, dtype: torch.dtype = torch.float32, **options: Any
) -> Recurrent:
    torch.manual_seed(1)
    network = Recurrent(Box(-1, 1, (width,)), cell, units, **options).to(dtype)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "bias" in name or "norms" in name:
                weight.uniform_(-0.5, 0.5)
    return network


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_vanilla_step_by_hand() -> None:
    step = rnn_step(torch.tensor([[0.3, -1.0]]), torch.tensor([[0.2, 0.4]]))
    torch.testing.assert_close(step, torch.tensor([[math.tanh(0.5), math.tanh(-0.6)]]))


def test_an_lstm_step_by_hand() -> None:
    sums = (0.1, -0.2, 0.3, 0.4)  # input, forget, candidate, output
    hidden, cell = lstm_step(torch.tensor([sums]), torch.zeros(1, 4), torch.tensor([[2.0]]))
    expected = sigmoid(-0.2) * 2.0 + sigmoid(0.1) * math.tanh(0.3)
    assert float(cell) == pytest.approx(expected, rel=1e-6)
    assert float(hidden) == pytest.approx(sigmoid(0.4) * math.tanh(expected), rel=1e-6)


def test_a_gru_step_by_hand() -> None:
    hidden = gru_step(torch.tensor([[0.1, -0.2, 0.3]]), torch.tensor([[0.5, 0.6, 0.7]]), torch.tensor([[2.0]]))
    reset, update = sigmoid(0.6), sigmoid(0.4)
    candidate = math.tanh(0.3 + reset * 0.7)
    assert float(hidden) == pytest.approx((1 - update) * candidate + update * 2.0, rel=1e-6)


def by_equations(network: Recurrent, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One layer, one step after the other, as the equations are written."""
    layer, outputs = network.layers[0], []
    state = tuple(tensor[0] for tensor in state)
    for step in inputs:
        projected = step @ layer.weight_ih_l0.T + layer.bias_ih_l0
        recurrent = state[0] @ layer.weight_hh_l0.T + layer.bias_hh_l0
        if network.cell == "rnn":
            state = (rnn_step(projected, recurrent),)
        elif network.cell == "lstm":
            state = lstm_step(projected, recurrent, state[1])
        else:
            state = (gru_step(projected, recurrent, state[0]),)
        outputs.append(state[0])
    return torch.stack(outputs), tuple(tensor.unsqueeze(0) for tensor in state)


@pytest.mark.parametrize("cell", CELLS)
def test_the_compiled_layer_is_the_written_equations_and_so_are_its_gradients(cell: str) -> None:
    network = build(cell, dtype=torch.float64)
    inputs = torch.randn(6, 3, 5, dtype=torch.float64)
    state = tuple(torch.randn_like(tensor).requires_grad_() for tensor in network.start(3))
    found, expected = [], []
    for compute, results in ((network, found), (by_equations, expected)):
        network.zero_grad()
        here = inputs.clone().requires_grad_()
        outputs, after = compute(here, state) if compute is network else compute(network, here, state)
        loss = (outputs * torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)).sum()
        loss = loss + sum((tensor**2).sum() for tensor in after)
        gradients = torch.autograd.grad(loss, [here, *state, *network.parameters()])
        results += [outputs.detach(), *(tensor.detach() for tensor in after), *gradients]
    for ours, written in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, written, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacked_layers_are_those_of_pytorch(cell: str, bidirectional: bool) -> None:
    network = build(cell, layers=2, bidirectional=bidirectional)
    theirs = THEIRS[cell](5, 7, 2, bidirectional=bidirectional)
    for index, layer in enumerate(network.layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            number, back = (index // 2, index % 2) if bidirectional else (index, 0)
            getattr(theirs, f"{name}_l{number}{'_reverse' if back else ''}").data.copy_(getattr(layer, f"{name}_l0"))
    inputs = torch.randn(9, 4, 5)
    torch.testing.assert_close(network(inputs)[0], theirs(inputs)[0], rtol=1e-5, atol=1e-6)


def numerically(function: Any, tensors: list[Tensor]) -> None:
    """Gradients against differences. The nonlinearities are quotients of polynomials, so that these agree to 1e-5."""
    tensors = [tensor.double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(function, tensors, eps=1e-5, atol=1e-5, rtol=1e-4, fast_mode=False)


def test_gradients_of_a_vanilla_layer_are_those_of_differences() -> None:
    numerically(RNNSequence.apply, [torch.randn(3, 2, 4), torch.randn(2, 4), torch.randn(4, 4)])


def test_gradients_of_an_lstm_layer_are_those_of_differences() -> None:
    numerically(LSTMSequence.apply, [torch.randn(3, 2, 12), torch.randn(2, 3), torch.randn(2, 3), torch.randn(12, 3)])


def test_gradients_of_a_gru_layer_are_those_of_differences() -> None:
    numerically(GRUSequence.apply, [torch.randn(3, 2, 9), torch.randn(2, 3), torch.randn(9, 3), torch.randn(3)])


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_with_layer_normalisation_are_those_of_differences(cell: str) -> None:
    network = build(cell, 3, 4, layer_norm=True, dtype=torch.float64)
    inputs = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.randn_like(tensor).requires_grad_() for tensor in network.start(2))
    assert torch.autograd.gradcheck(lambda x, *s: (network(x, s)[0], *network(x, s)[1]), (inputs, *state))


def test_layer_normalisation_of_an_lstm_by_hand() -> None:
    network = build("lstm", 2, 3, layer_norm=True)
    layer, (of_input, of_state, of_cell) = network.layers[0], network.norms[0]
    inputs, state = torch.randn(1, 1, 2), (torch.randn(1, 1, 3), torch.randn(1, 1, 3))

    def normalised(values: Tensor, norm: Any) -> Tensor:
        spread = (values.var(unbiased=False) + norm.eps).sqrt()
        return (values - values.mean()) / spread * norm.weight + norm.bias

    sums = normalised(layer.weight_ih_l0 @ inputs[0, 0], of_input) + layer.bias_ih_l0
    sums = sums + normalised(layer.weight_hh_l0 @ state[0][0, 0], of_state)
    i, f, g, o = sums.chunk(4)
    cell = f.sigmoid() * state[1][0, 0] + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * normalised(cell, of_cell).tanh()
    outputs, after = network(inputs, state)
    torch.testing.assert_close(outputs[0, 0], hidden)
    torch.testing.assert_close(after[1][0, 0], cell)


@pytest.mark.parametrize("cell", CELLS)
def test_in_bfloat16_numbers_and_gradients_are_near_those_of_float32(cell: str) -> None:
    network = build(cell, 16, 32, layers=2)
    inputs = torch.randn(20, 8, 16)
    results = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs, state = network(inputs)
        assert outputs.dtype == (torch.bfloat16 if enabled else torch.float32)
        assert all(tensor.dtype == torch.float32 for tensor in state)
        outputs.float().square().mean().backward()
        results.append(
            [outputs.detach().float(), *(w.grad.clone() for w in network.parameters() if w.grad is not None)]
        )
    for exact, rough in zip(*results, strict=True):
        assert float((exact - rough).norm() / exact.norm()) < 0.03


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_carried_state_is_one_long_sequence(cell: str, layer_norm: bool) -> None:
    network = build(cell, layers=2, layer_norm=layer_norm)
    inputs = torch.randn(10, 3, 5)
    whole, last = network(inputs)
    first, state = network(inputs[:4])
    second, state = network(inputs[4:], detached(state))
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-6)
    for ours, expected in zip(state, last, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_in_bfloat16_a_carried_state_is_one_long_sequence(cell: str) -> None:
    network = build(cell)
    inputs = torch.randn(10, 3, 5)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        whole, _ = network(inputs)
        first, state = network(inputs[:4])
        second, _ = network(inputs[4:], state)
    assert torch.equal(torch.cat([first, second]), whole)


def test_no_gradient_flows_through_a_detached_state() -> None:
    network = build("lstm")
    before = torch.randn(2, 3, 5, requires_grad=True)
    _, state = network(before)
    network(torch.randn(2, 3, 5), detached(state))[0].sum().backward()
    assert before.grad is None


def test_the_state_is_kept_where_it_is_said_and_zero_elsewhere() -> None:
    state = kept((torch.ones(2, 3, 4),), torch.tensor([True, False, True]))
    assert state[0].sum(dim=(0, 2)).tolist() == [8.0, 0.0, 8.0]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_reset_before_a_step_begins_that_sequence_anew_and_no_other(cell: str, batch_first: bool) -> None:
    network = build(cell, layers=2)
    inputs, state = torch.randn(8, 3, 5), tuple(torch.randn_like(tensor) for tensor in network.start(3))
    resets = torch.zeros(8, 3, dtype=torch.bool)
    resets[0, 2] = resets[3, 1] = resets[6, 1] = True
    axes = (lambda t: t.transpose(0, 1)) if batch_first else (lambda t: t)
    found, last = network(axes(inputs), state, resets=axes(resets), batch_first=batch_first)
    for lane, cuts in enumerate([[0, 8], [0, 3, 6, 8], [0, 8]]):
        here = tuple(tensor[:, lane : lane + 1] for tensor in state)
        for start, stop in itertools.pairwise(cuts):
            fresh = start > 0 or lane == 2
            expected, here = network(inputs[start:stop, lane : lane + 1], None if fresh else here)
            torch.testing.assert_close(axes(found)[start:stop, lane : lane + 1], expected)
        torch.testing.assert_close(last[0][:, lane : lane + 1], here[0])


@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing_that_two_directions_see(cell: str) -> None:
    network = build(cell, layers=2, bidirectional=True)
    texts = [torch.randn(length, 1, 5) for length in (6, 2, 4)]
    together = torch.full((6, 3, 5), 9.0)
    for lane, one in enumerate(texts):
        together[: len(one), lane] = one[:, 0]
    found, state = network(together, lengths=torch.tensor([6, 2, 4]))
    assert state == ()
    for lane, one in enumerate(texts):
        torch.testing.assert_close(found[: len(one), lane], network(one)[0][:, 0])


@pytest.mark.parametrize("cell", CELLS)
def test_tokens_are_read_as_one_hot_vectors(cell: str) -> None:
    torch.manual_seed(2)
    network = Recurrent(Discrete(6), cell, 4, layers=2)
    dense = Recurrent(Box(0, 1, (6,)), cell, 4, layers=2)
    dense.load_state_dict(network.state_dict())
    tokens = torch.randint(6, (5, 3))
    ours, theirs = network(tokens)[0], dense(nn.functional.one_hot(tokens, 6).float())[0]
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for one, other in zip(network.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("rows", [4, 30])
@pytest.mark.parametrize("small", [0, 1024])
def test_a_table_s_rows_are_read_like_vectors_looked_up(rows: int, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_TABLE", small)
    network = build("gru")
    ids = torch.randint(rows, (6, 3))
    results = []
    for compute in (lambda t: network.embedded(t, ids), lambda t: network(nn.functional.embedding(ids, t))):
        table = torch.linspace(-1, 1, rows * 5).view(rows, 5).requires_grad_()
        outputs, _ = compute(table)
        outputs.square().sum().backward()
        results.append((outputs.detach(), table.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("rows", [3, module.SMALL_TABLE + 1])
def test_many_small_gradients_of_a_row_are_not_lost_in_bfloat16(rows: int) -> None:
    table = torch.zeros(rows, 2, dtype=torch.bfloat16, requires_grad=True)
    module._TableRows.apply(table, torch.zeros(4096, 1, dtype=torch.int64)).sum().backward()
    assert table.grad is not None and table.grad[0].tolist() == [4096.0, 4096.0]


def test_dropout_keeps_the_mean_and_is_the_generator_s() -> None:
    values = torch.ones(50_000)
    dropped = dropout(values, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(dropped, dropout(values, 0.3, torch.Generator().manual_seed(1)))
    assert not torch.equal(dropped, dropout(values, 0.3, torch.Generator().manual_seed(2)))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    per_byte = (dropped.view(-1, 8) == 0).float().mean(dim=0)  # one random word decides for eight numbers
    assert float((per_byte - 0.3).abs().max()) < 0.03


def test_dropout_lies_between_layers_only_and_only_while_learning() -> None:
    inputs = torch.randn(4, 3, 5)
    single = build("lstm", dropout=0.5)
    torch.testing.assert_close(single(inputs, generator=torch.Generator())[0], single.eval()(inputs)[0])
    double = build("lstm", layers=2, dropout=0.5)
    first = double(inputs, generator=torch.Generator().manual_seed(1))[0]
    assert torch.equal(first, double(inputs, generator=torch.Generator().manual_seed(1))[0])
    assert not torch.equal(first, double(inputs, generator=torch.Generator().manual_seed(2))[0])
    with pytest.raises(ValueError, match="generator"):
        double(inputs)
    assert torch.equal(double.eval()(inputs)[0], double(inputs, generator=torch.Generator())[0])


def test_dropout_never_falls_on_the_way_through_time() -> None:
    network = build("lstm", layers=2, dropout=0.9)
    inputs = torch.randn(30, 3, 5)
    states = [network(inputs, generator=torch.Generator().manual_seed(seed))[1] for seed in (1, 2)]
    torch.testing.assert_close(states[0][1][0], states[1][1][0])  # the first layer's memory knows of no dropout


def test_a_random_state_of_the_process_is_not_touched() -> None:
    network = build("lstm", layers=2, dropout=0.5)
    before = torch.get_rng_state()
    network(torch.randn(4, 3, 5, generator=torch.Generator()), generator=torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_an_lstm_begins_by_remembering() -> None:
    layer = Recurrent(Box(-1, 1, (3,)), "lstm", 4).layers[0]
    assert (layer.bias_ih_l0 + layer.bias_hh_l0)[4:8].tolist() == [1.0] * 4


def test_backward_twice_through_one_graph_gives_the_same() -> None:
    network = build("lstm")
    outputs, _ = network(torch.randn(4, 2, 5))
    gradients = []
    for _ in range(2):
        network.zero_grad()
        outputs.sum().backward(retain_graph=True)
        gradients.append(copy.deepcopy(network.layers[0].weight_hh_l0.grad))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Recurrent(Box(0, 1, (3, 8, 8)), "lstm"), "vectors and tokens"),
        (lambda: Recurrent(MultiBinary(3), "lstm"), "vectors and tokens"),
        (lambda: Recurrent(Box(0, 1, (3,)), "elman"), "cell must be one of rnn, lstm, gru, got 'elman'"),  # type: ignore[arg-type]
        (lambda: Recurrent(Box(0, 1, (3,)), units=0), "at least 1"),
        (lambda: Recurrent(Box(0, 1, (3,)), dropout=1.0), "dropout must be at least 0 and below 1, got 1.0"),
        (lambda: Recurrent(Box(0, 1, (3,)), bidirectional=True).start(2), "bidirectional"),
        (lambda: Recurrent(Box(0, 1, (3,)))(torch.zeros(2, 3)), "needs a learner that carries the state"),
        (
            lambda: Recurrent(Box(0, 1, (3,)), bidirectional=True)(
                torch.zeros(2, 1, 3), resets=torch.zeros(2, 1, dtype=torch.bool)
            ),
            "no resets",
        ),
    ],
)
def test_what_cannot_be_is_refused(act: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        act()


def test_it_is_registered() -> None:
    network = BACKBONES.get("recurrent")(Box(-1, 1, (5,), np.float32), units=8)
    assert isinstance(network, Recurrent) and network.features == 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cell", CELLS)
def test_a_gpu_computes_the_same(cell: str) -> None:
    network = build(cell, layers=2)
    inputs = torch.randn(9, 4, 5)
    ours, state = network(inputs)
    there = copy.deepcopy(network).to("cuda")
    with torch.backends.cudnn.flags(allow_tf32=False):
        theirs, other = there(inputs.to("cuda"))
    torch.testing.assert_close(ours, theirs.cpu(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state[0], other[0].cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_layers_of_the_library_are_never_run_in_a_narrow_format(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU they would compute in float16, in which small gradients vanish."""
    monkeypatch.setattr("aprendiz.recurrent.network._fusible", lambda tensor: False)
    network, seen = build(cell, layers=2), []

    def look(module: nn.Module, given: Any) -> None:
        seen.append((given[0].dtype, torch.is_autocast_enabled("cpu")))

    for layer in network.layers:
        layer.register_forward_pre_hook(look)
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = network(torch.randn(3, 2, 5).to(torch.bfloat16))
    features.sum().backward()
    assert seen == [(torch.float32, False)] * 2
