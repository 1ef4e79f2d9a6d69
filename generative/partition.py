"""The partition function of a restricted Boltzmann machine: summed up where that is possible, else estimated.

Estimate: annealed importance sampling (AIS), Salakhutdinov and Murray, "On the quantitative analysis of deep belief
networks", ICML 2008, section 4.1; the method is Neal's (2001, Statistics and Computing 11:125).

A machine is given by its weights W [D, H], visible biases b [D] and hidden biases c [H], and has
    log p*(v) = v.b + sum_j log(1 + exp(c_j + v.W_j))  [ - |v|^2 / 2  where visible units are Gaussian ]
    p(v) = p*(v) / Z
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_HIDDEN = 20
"""Hidden units over whose 2^20 states it takes seconds to sum."""
MOST_VISIBLE = 16
"""Binary visible units over whose states we sum where there are more hidden units."""
_CHUNK = 1 << 14
"""States summed at once."""


@dataclass(frozen=True)
class LogPartition:
    """log Z of a machine, in nats."""

    value: float
    low: float
    """Three standard errors of the estimated Z below, as the paper gives it; equal to `value` where it is exact."""
    high: float
    """Three standard errors above."""
    exact: bool

    def likelihoods(self, name: str, unnormalised: float) -> dict[str, float]:
        """Metrics of images whose mean log p*(v), in nats, is `unnormalised`: `name`, its error bar, and log Z.

        Where Z may be 0 for all that the estimate knows, the bar has no upper end, and none is given.
        """
        metrics = {name: unnormalised - self.value, f"{name}_low": unnormalised - self.high}
        if math.isfinite(self.low):
            metrics[f"{name}_high"] = unnormalised - self.low
        return metrics | {"log_partition": self.value, "log_partition_exact": float(self.exact)}

    @property
    def method(self) -> str:
        """How it was found, for reports."""
        return "exact" if self.exact else "annealed importance sampling"


def can_sum(visible: int, hidden: int, gaussian: bool = False) -> bool:
    """Whether `exact_log_partition` takes a machine of so many units."""
    return hidden <= MOST_HIDDEN or (visible <= MOST_VISIBLE and not gaussian)


def summed_terms(visible: int, hidden: int, gaussian: bool = False) -> int:
    """Terms of the sum that `exact_log_partition` makes: a core of a CPU does some 10^8 a second."""
    smaller, larger = (hidden, visible) if gaussian or hidden <= visible else (visible, hidden)
    return larger << smaller


def exact_log_partition(weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, gaussian: bool = False) -> float:
    """log Z by summing over all states of the smaller layer, the other one summed out in closed form; in float64.

    Over hidden states, with a_i = b_i + W_i.h:
        binary     Z = sum_h exp(c.h) prod_i (1 + exp(a_i))
        Gaussian   Z = sum_h exp(c.h) prod_i sqrt(2 pi) exp(a_i^2 / 2)
    Raises ValueError where both layers are too large.
    """
    visible, hidden = weight.shape
    if not can_sum(visible, hidden, gaussian):
        raise ValueError(f"{visible} visible and {hidden} hidden units have too many states to sum over")
    weight, visible_bias, hidden_bias = (t.detach().double().cpu() for t in (weight, visible_bias, hidden_bias))
    if not gaussian and visible < hidden:  # the roles change places
        weight, visible_bias, hidden_bias = weight.T, hidden_bias, visible_bias
    total = torch.tensor(-math.inf, dtype=torch.float64)
    for states in binary_states(weight.shape[1]):  # [S, H]
        log_terms = states @ hidden_bias  # [S]
        activation = visible_bias + states @ weight.T  # [S, D]
        if gaussian:
            log_terms = log_terms + 0.5 * activation.square().sum(1) + 0.5 * visible * math.log(2 * math.pi)
        else:
            log_terms = log_terms + F.softplus(activation).sum(1)
        total = torch.logaddexp(total, log_terms.logsumexp(0))
    return float(total)


def binary_states(units: int) -> Iterator[Tensor]:
    """All 2^units states of binary units, float64 [up to 16,384, units] at a time."""
    for start in range(0, 1 << units, _CHUNK):
        numbers = torch.arange(start, min(start + _CHUNK, 1 << units))
        yield (numbers[:, None] >> torch.arange(units) & 1).double()


def paper_temperatures(steps: int = 14_500) -> Tensor:
    """Inverse temperatures float64 [steps + 1] from 0 to 1, spaced as in section 6 of the paper: 500 up to 0.5, 4,000
    up to 0.9 and 10,000 up to 1, in these proportions."""
    first, second = max(1, round(steps * 500 / 14_500)), max(1, round(steps * 4_000 / 14_500))
    third = max(1, steps - first - second)
    pieces = [(0.0, 0.5, first), (0.5, 0.9, second), (0.9, 1.0, third)]
    parts = [torch.linspace(a, b, count + 1, dtype=torch.float64)[:-1] for a, b, count in pieces]
    return torch.cat([*parts, torch.ones(1, dtype=torch.float64)])


@torch.no_grad()
def annealed_log_weights(
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    base_bias: Tensor,
    temperatures: Tensor,
    chains: int,
    generator: torch.Generator,
    gaussian: bool = False,
) -> Tensor:
    """log w [chains] of AIS: each exp(log w) is an unbiased estimate of Z / Z_base (equations 9 to 11).

    The base has no weights and visible biases `base_bias` [D] (the training images' own log odds make it close).
    Between base and machine, at inverse temperature t (equation 17 without the base's hidden units, which are idle),
        log p_t(v) = v.b_t + sum_j log(1 + exp(t (c_j + v.W_j)))  [ - |v|^2 / 2 ],    b_t = (1 - t) b_base + t b
    `generator` lives on the machine's device.
    """
    device = weight.device
    visible = base_bias.expand(chains, -1)  # [N, D]
    visible = _draw_visible(visible, generator, gaussian)
    log_weights = torch.zeros(chains, dtype=torch.float64, device=device)
    steps = temperatures.tolist()
    bias_difference = visible_bias - base_bias  # [D]
    for before, after in itertools.pairwise(steps):
        input_ = hidden_bias + visible @ weight  # [N, H]
        gain = (after - before) * (visible @ bias_difference)
        gain = gain + (F.softplus(after * input_) - F.softplus(before * input_)).sum(1)
        log_weights += gain.double()
        hidden = torch.rand(input_.shape, generator=generator, device=device) < torch.sigmoid(after * input_)
        bias = torch.lerp(base_bias, visible_bias, after)
        visible = _draw_visible(bias + after * (hidden.to(weight.dtype) @ weight.T), generator, gaussian)
    return log_weights


def log_mean_weight(log_weights: Tensor) -> tuple[float, float, float]:
    """log of the mean of w, and of the mean minus and plus three standard errors (section 4.1); log w is [N].

    The low end is -inf where three standard errors reach below zero.
    """
    highest = log_weights.max()
    scaled = (log_weights.double() - highest).exp()  # [N]
    mean = float(scaled.mean())
    error = 3 * float(scaled.std()) / math.sqrt(len(scaled)) if len(scaled) > 1 else math.inf
    low = math.log(mean - error) if mean > error else -math.inf
    return float(highest) + math.log(mean), float(highest) + low, float(highest) + math.log(mean + error)


def estimated_log_partition(
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    base_bias: Tensor,
    generator: torch.Generator,
    *,
    chains: int = 100,
    steps: int = 14_500,
    gaussian: bool = False,
) -> LogPartition:
    """log Z by AIS, with its error bar; `chains` and `steps` are the paper's (section 6).

    The estimate of Z is unbiased, so that of log Z is too low on average: reported likelihoods err upwards.
    """
    log_weights = annealed_log_weights(
        weight, visible_bias, hidden_bias, base_bias, paper_temperatures(steps), chains, generator, gaussian
    )
    value, low, high = log_mean_weight(log_weights)
    base = base_log_partition(base_bias, weight.shape[1], gaussian)
    return LogPartition(base + value, base + low, base + high, exact=False)


def base_log_partition(base_bias: Tensor, hidden: int, gaussian: bool = False) -> float:
    """log Z of a machine without weights and hidden biases: D visible units of `base_bias` [D], `hidden` idle ones."""
    bias = base_bias.detach().double()
    each = 0.5 * bias.square() + 0.5 * math.log(2 * math.pi) if gaussian else F.softplus(bias)
    return float(each.sum()) + hidden * math.log(2)


def _draw_visible(activation: Tensor, generator: torch.Generator, gaussian: bool) -> Tensor:
    """Visible states of inputs [N, D]: coins of their sigmoid, or normal around them with variance 1."""
    if gaussian:
        noise = torch.randn(activation.shape, generator=generator, device=activation.device, dtype=activation.dtype)
        return activation + noise
    coins = torch.rand(activation.shape, generator=generator, device=activation.device)
    return (coins < torch.sigmoid(activation)).to(activation.dtype)
