"""word2vec in PyTorch, for GPUs: the same examples and the same gradients as the compiled kernels, many examples at
once.

Papers and notation as in `word2vec_kernels`. A batch of N examples is one step: the gradients of all its pairs are
summed (the mean would learn almost nothing at the same rate: a word occurs in few of the pairs), at the vectors
before the step.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from language.huffman import HuffmanTree
from language.word2vec_draws import LINE_END, Examples

Objective = Literal["negative", "hierarchical", "softmax"]
Architecture = Literal["skip-gram", "cbow"]


class Batch(NamedTuple):
    """N examples on the learner's device."""

    centres: Tensor
    """int64 [N]"""
    contexts: Tensor
    """int64 [N, C]; 0 where the window has no word."""
    present: Tensor
    """bool [N, C]: whether it has."""
    noise: Tensor
    """int64 [N, negatives]"""


class Way(NamedTuple):
    """A Huffman tree on the learner's device."""

    nodes: Tensor
    """int64 [V, L]; 0 beyond the word's length."""
    labels: Tensor
    """float [V, L]: 1 - the turn."""
    present: Tensor
    """bool [V, L]"""


def batch_of(examples: Examples, device: torch.device | str) -> Batch:
    """Copies examples; `Examples` themselves are overwritten by the next ones."""
    sizes = torch.from_numpy(examples.sizes).to(device, torch.int64)
    contexts = torch.from_numpy(examples.contexts).to(device, torch.int64)
    present = torch.arange(contexts.shape[1], device=device) < sizes[:, None]
    return Batch(
        torch.from_numpy(examples.centres).to(device, torch.int64),
        contexts.masked_fill(~present, 0),
        present,
        torch.from_numpy(examples.noise).to(device, torch.int64),
    )


def way_of(tree: HuffmanTree, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Way:
    """The tree as tensors."""
    nodes = torch.from_numpy(tree.nodes).to(device, torch.int64)
    return Way(nodes.clamp(min=0), 1 - torch.from_numpy(tree.bits).to(device, dtype), nodes >= 0)


def predictors(inputs: Tensor, batch: Batch, architecture: Architecture, mean: bool) -> tuple[Tensor, Tensor]:
    """What predicts, X [N, M, D], and which of it there is, [N, M]: the context's vectors, or (M = 1) their sum or
    mean."""
    vectors = inputs[batch.contexts]  # [N, C, D]
    if architecture == "skip-gram":
        return vectors, batch.present
    total = (vectors * batch.present[..., None]).sum(1, keepdim=True)  # [N, 1, D]
    if mean:
        total = total / batch.present.sum(1)[:, None, None]
    return total, torch.ones_like(batch.present[:, :1])


def candidates(batch: Batch, way: Way | None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the output vectors, labels and weights, each [N, K]: of the centre and its negatives, or (given a way)
    of the inner nodes. A negative that is the centre weighs nothing."""
    if way is not None:
        return way.nodes[batch.centres], way.labels[batch.centres], way.present[batch.centres].to(way.labels.dtype)
    rows = torch.cat([batch.centres[:, None], batch.noise], 1)
    weights = torch.cat([torch.ones_like(batch.centres[:, None]), batch.noise != batch.centres[:, None]], 1)
    labels = torch.zeros_like(weights)
    labels[:, 0] = 1
    return rows, labels, weights


def _surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label) of logits [N, M, K] and labels [N, K]; PyTorch's softplus is not exact above 20."""
    labels = labels[:, None].expand_as(logits).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def loss(
    inputs: Tensor,
    outputs: Tensor,
    batch: Batch,
    *,
    architecture: Architecture,
    objective: Objective,
    mean: bool = True,
    way: Way | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of the losses in nats, and the number of predictions that it is the sum of; both scalars.

    inputs [V, D], outputs [rows, D]. Mikolov et al. 2013b: equation 4 (negative), 3 (hierarchical), 2 (softmax).
    """
    x, present = predictors(inputs, batch, architecture, mean)
    if objective == "softmax":
        logits = x @ outputs[LINE_END + 1 :].T  # [N, M, V]
        chosen = (batch.centres - LINE_END - 1)[:, None].expand(present.shape)
        each = F.cross_entropy(logits.flatten(0, 1), chosen.flatten(), reduction="none").view(present.shape)
        return (each * present).sum(), present.sum()
    rows, labels, weights = candidates(batch, way)
    logits = x @ outputs[rows].mT  # [N, M, K]
    each = _surprise(logits, labels)
    return (each * weights[:, None] * present[..., None]).sum(), present.sum()


@torch.no_grad()
def step(
    inputs: Tensor,
    outputs: Tensor,
    batch: Batch,
    rate: float,
    *,
    architecture: Architecture,
    objective: Objective,
    mean: bool = True,
    exact: bool = False,
    way: Way | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of gradient descent on `loss`, in place. Returns what `loss` returns, before the step.

    CBOW: unless `exact`, each vector of the context moves by the gradient of their mean, not by its share of that, as
    in word2vec's program.
    """
    x, present = predictors(inputs, batch, architecture, mean)
    if objective == "softmax":
        y = outputs[LINE_END + 1 :]
        logits = x @ y.T  # [N, M, V]
        target = (batch.centres - LINE_END - 1)[:, None, None].expand(*present.shape, 1)
        log_p = logits.log_softmax(2)
        total = -(log_p.gather(2, target).squeeze(2) * present).sum()
        errors = -log_p.exp()
        errors.scatter_add_(2, target, torch.ones_like(errors[..., :1]))
        errors *= present[..., None]
        errors *= rate
        x_moves = errors @ y  # [N, M, D]
        y += torch.einsum("nmv,nmd->vd", errors, x)
    else:
        rows, labels, weights = candidates(batch, way)
        y = outputs[rows]  # [N, K, D]
        logits = x @ y.mT  # [N, M, K]
        counts = weights[:, None] * present[..., None]
        total = (_surprise(logits, labels) * counts).sum()
        errors = (labels[:, None] - logits.sigmoid()) * counts * rate
        x_moves = errors @ y
        outputs.index_add_(0, rows.flatten(), (errors.mT @ x).flatten(0, 1))
    if architecture == "cbow":
        if exact and mean:
            x_moves = x_moves / batch.present.sum(1)[:, None, None]
        x_moves = x_moves * batch.present[..., None]  # [N, C, D]
    inputs.index_add_(0, batch.contexts.flatten(), x_moves.flatten(0, 1))
    return total, present.sum()
