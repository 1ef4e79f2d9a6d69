"""Restricted Boltzmann machines: energies, conditionals, Gibbs sampling, and contrastive divergence.

Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14:1771, 2002; Tieleman,
"Training restricted Boltzmann machines using approximations to the likelihood gradient", ICML 2008; what is sampled and
what is a probability follows Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 3.

    E(v, h) = - v.b - h.c - v.W h  [ + |v|^2 / 2  where visible units are Gaussian, of variance 1 ]
    p(v, h) = exp(-E(v, h)) / Z
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Reversible, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aprendiz.backbones import MLP
from aprendiz.optim import load_optimizer_state
from generative.partition import LogPartition, can_sum, estimated_log_partition, exact_log_partition


class Machine(nn.Module):
    """Weights and biases of one machine, and what follows from them in closed form. Without autograd."""

    def __init__(self, visible: int, hidden: int, generator: torch.Generator, *, gaussian: bool = False) -> None:
        """Weights are drawn from N(0, 0.01^2) (Hinton 2010, section 8); biases are 0."""
        super().__init__()
        self.gaussian = gaussian
        weight = 0.01 * torch.randn(visible, hidden, generator=generator)
        self.weight = nn.Parameter(weight, requires_grad=False)
        """[D, H]"""
        self.visible_bias = nn.Parameter(torch.zeros(visible), requires_grad=False)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden), requires_grad=False)

    def hidden_probabilities(self, visible: Tensor) -> Tensor:
        """p(h_j = 1 | v) = sigmoid(c_j + v.W_j): [B, D] to [B, H]."""
        return torch.sigmoid(torch.addmm(self.hidden_bias, visible, self.weight))

    def visible_means(self, hidden: Tensor) -> Tensor:
        """E[v_i | h]: sigmoid(b_i + W_i.h), without the sigmoid where visible units are Gaussian; [B, H] to [B, D]."""
        activation = torch.addmm(self.visible_bias, hidden, self.weight.T)
        return activation if self.gaussian else torch.sigmoid(activation)

    def sample_hidden(self, visible: Tensor, generator: torch.Generator) -> Tensor:
        """Hidden states, 0 or 1: [B, D] to [B, H]."""
        return coins(self.hidden_probabilities(visible), generator)

    def sample_visible(self, hidden: Tensor, generator: torch.Generator) -> Tensor:
        """Visible states: [B, H] to [B, D]."""
        means = self.visible_means(hidden)
        if self.gaussian:
            return means + torch.randn(means.shape, generator=generator, device=generator.device).to(means)
        return coins(means, generator)

    def gibbs(self, visible: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Visible states [B, D] after so many steps down and up again, each layer sampled given the other."""
        for _ in range(steps):
            visible = self.sample_visible(self.sample_hidden(visible, generator), generator)
        return visible

    def free_energy(self, visible: Tensor) -> Tensor:
        """F(v) = - v.b - sum_j log(1 + exp(c_j + v.W_j))  [ + |v|^2 / 2 ]: [B, D] to [B]; p(v) = exp(-F(v)) / Z."""
        hidden_part = F.softplus(torch.addmm(self.hidden_bias, visible, self.weight)).sum(1)
        energy = -(visible @ self.visible_bias) - hidden_part
        return energy + 0.5 * visible.square().sum(1) if self.gaussian else energy

    def log_partition(self, base_bias: Tensor, generator: torch.Generator, *, chains: int, steps: int) -> LogPartition:
        """log Z: exact where one layer is small enough, else by annealed importance sampling.

        The generator may live on another device than the machine: it seeds one that lives there.
        """
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        weight, visible_bias, hidden_bias = (p.detach() for p in (self.weight, self.visible_bias, self.hidden_bias))
        if can_sum(weight.shape[0], weight.shape[1], self.gaussian):
            value = exact_log_partition(weight, visible_bias, hidden_bias, self.gaussian)
            return LogPartition(value, value, value, exact=True)
        return estimated_log_partition(
            weight,
            visible_bias,
            hidden_bias,
            base_bias,
            torch.Generator(weight.device).manual_seed(seed),
            chains=chains,
            steps=steps,
            gaussian=self.gaussian,
        )


def coins(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """1 with the given probability, else 0; the shape and dtype of `probabilities`, on its device."""
    uniform = torch.rand(probabilities.shape, generator=generator, device=generator.device)
    return (uniform.to(probabilities.device) < probabilities).to(probabilities.dtype)


def log_odds(means: Tensor, smoothing: float = 0.01) -> Tensor:
    """log(p / (1 - p)) of the mean of each pixel [D], which visible biases start from (Hinton 2010, section 8); means
    are kept off 0 and 1 by `smoothing`."""
    return torch.logit(means, eps=smoothing)


def pseudo_log_likelihood(machine: Machine, visible: Tensor, pixels: Tensor | None = None) -> Tensor:
    """sum_i log p(v_i | all others) = sum_i log sigmoid(F(v with i turned over) - F(v)): binary [B, D] to [B].

    With `pixels` int64 [n] only these are looked at, and the sum is scaled up to all D (Besag 1975).
    """
    count = visible.shape[1]
    chosen = torch.arange(count, device=visible.device) if pixels is None else pixels
    activation = torch.addmm(machine.hidden_bias, visible, machine.weight)  # [B, H]
    before = F.softplus(activation).sum(1)  # [B]
    total = torch.zeros(len(visible), device=visible.device)
    for i in chosen.tolist():
        turn = 1.0 - 2.0 * visible[:, i]  # [B]
        after = F.softplus(activation + turn[:, None] * machine.weight[i]).sum(1)
        difference = before - after - turn * machine.visible_bias[i]  # F(turned) - F(v)
        total += F.logsigmoid(difference)
    return total * (count / len(chosen))


def likelihood_gradient(
    machine: Machine, data: Tensor, negative: Tensor, data_hidden: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the mean log-likelihood in W [D, H], b [D] and c [H]: statistics of `data` [B, D] less those of
    states `negative` [M, D] of the model, hidden units taken at their probabilities in both.

    Hinton 2002, equation 6, where the negative states come from a short chain that starts at the data.
    """
    positive_hidden = machine.hidden_probabilities(data) if data_hidden is None else data_hidden
    negative_hidden = machine.hidden_probabilities(negative)
    weight = data.T @ positive_hidden / len(data) - negative.T @ negative_hidden / len(negative)
    return weight, data.mean(0) - negative.mean(0), positive_hidden.mean(0) - negative_hidden.mean(0)


class ContrastiveDivergence:
    """Stochastic gradient ascent with momentum on one machine: CD-k, or PCD-k with chains that are never restarted."""

    def __init__(
        self,
        machine: Machine,
        generator: torch.Generator,
        *,
        steps: int,
        persistent: bool,
        chains: int,
        weight_decay: float,
    ) -> None:
        """`steps`: Gibbs steps an update (k); `chains`: how many persistent ones."""
        self.machine, self.generator = machine, generator
        self.steps, self.persistent, self.chains = steps, persistent, chains
        # Biases are not decayed (Hinton 2010, section 10).
        groups = [
            {"params": [machine.weight], "weight_decay": weight_decay},
            {"params": [machine.visible_bias, machine.hidden_bias], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.5)
        self.fantasy: Tensor | None = None
        """Visible states [chains, D] of the persistent chains, from the first update on."""

    @torch.no_grad()
    def step(self, data: Tensor, learning_rate: float, momentum: float) -> dict[str, Tensor]:
        """One update on visible states (or probabilities) [B, D]; returns metrics.

        The negative chain runs on sampled hidden states: probabilities there would carry more than one bit a unit.
        """
        machine, generator = self.machine, self.generator
        data_hidden = machine.hidden_probabilities(data)
        if self.persistent:
            if self.fantasy is None:  # chains start from what looks like the data
                places = torch.arange(self.chains, device=data.device) % len(data)
                self.fantasy = data[places] if machine.gaussian else coins(data[places], generator)
            negative = self.fantasy = machine.gibbs(self.fantasy, self.steps, generator)
        else:
            first = machine.sample_visible(coins(data_hidden, generator), generator)
            negative = machine.gibbs(first, self.steps - 1, generator)
        gradient = likelihood_gradient(machine, data, negative, data_hidden)
        for parameter, ascent in zip(
            (machine.weight, machine.visible_bias, machine.hidden_bias), gradient, strict=True
        ):
            parameter.grad = ascent.neg_()
        for group in self.optimizer.param_groups:
            group["lr"], group["momentum"] = learning_rate, momentum
        self.optimizer.step()
        return {
            "reconstruction_error": (data - machine.visible_means(data_hidden)).square().sum(1).mean(),
            "hidden_mean": data_hidden.mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()["state"], "fantasy": self.fantasy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_optimizer_state(self.optimizer, state["optimizer"])
        fantasy = state["fantasy"]
        self.fantasy = None if fantasy is None else fantasy.to(self.machine.weight.device).clone()


def falling_rate(start: float, final_share: float, duration: int, seen: int) -> float:
    """A learning rate after `seen` images, falling linearly over `duration` of them."""
    return start * (1.0 - (1.0 - final_share) * min(1.0, seen / max(1, duration)))


def chain_start(base_bias: Tensor, count: int, generator: torch.Generator, gaussian: bool) -> Tensor:
    """Visible states [count, D] of independent pixels with the data's own means: where chains that sample begin."""
    means = (base_bias if gaussian else torch.sigmoid(base_bias)).expand(count, -1)
    if gaussian:
        return means + torch.randn(means.shape, generator=generator, device=generator.device).to(means)
    return coins(means, generator)


def raised(machines: Iterable[Machine], states: Tensor) -> Tensor:
    """Hidden probabilities of the last of some machines, one on top of the other: [B, D] to [B, H]."""
    for machine in machines:
        states = machine.hidden_probabilities(states)
    return states


def lowered(machines: Reversible[Machine], states: Tensor) -> Tensor:
    """Means, layer by layer down to the first machine's visible units: [B, H] to [B, D]."""
    for machine in reversed(machines):
        states = machine.visible_means(states)
    return states


def unnormalised_bound(machines: Sequence[Machine], visible: Tensor, generator: torch.Generator) -> Tensor:
    """Lower bound on log p(v) of a deep belief network, but for the top machine's -log Z, from one sample of q; [B, D]
    to [B].

    E_q[log p(v | h_1) + ... + log p(h_K-2 | h_K-1) + log p*(h_K-1)] + H(q), where q is factorial and goes up through
    the machines, and log p* = -F of the top one (Salakhutdinov and Murray 2008, section 5).
    """
    total = torch.zeros(len(visible), device=visible.device)
    for machine in machines[:-1]:
        probabilities = machine.hidden_probabilities(visible)
        hidden = coins(probabilities, generator)
        safe = probabilities.clamp(1e-6, 1.0 - 1e-6)
        total -= (safe * safe.log() + (1.0 - safe) * (1.0 - safe).log()).sum(1)  # the entropy
        total += log_conditional(machine, visible, hidden)
        visible = hidden
    return total - machines[-1].free_energy(visible)


def log_conditional(machine: Machine, visible: Tensor, hidden: Tensor) -> Tensor:
    """log p(v | h) [B] of states [B, D] and [B, H]: of independent coins, or of normal densities of variance 1."""
    activation = torch.addmm(machine.visible_bias, hidden, machine.weight.T)
    if machine.gaussian:
        return -0.5 * ((visible - activation).square() + math.log(2 * math.pi)).sum(1)
    return (visible * activation - F.softplus(activation)).sum(1)


@torch.no_grad()
def copy_machine(machine: nn.Module, layer: nn.Module) -> None:
    """A machine's weights and hidden biases into a dense layer of sigmoid units, which then computes its hidden
    probabilities."""
    assert isinstance(machine, Machine) and isinstance(layer, MLP)
    dense = layer.layers[0]
    assert isinstance(dense, nn.Linear)
    dense.weight.copy_(machine.weight.T)
    dense.bias.copy_(machine.hidden_bias)
