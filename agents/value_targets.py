"""What the next state is worth: greedy, double and Munchausen, for values and for distributions of them alike.

Everything is [B, A] for B transitions and A actions; a distribution has Z atoms or quantiles per action, [B, A, Z].
"""

from __future__ import annotations

import torch
from torch import Tensor


def of_action(values: Tensor, action: Tensor) -> Tensor:
    """Entries of one action each: values [B, A] or [B, A, Z], action int64 [B], to [B] or [B, Z]."""
    if values.ndim == 2:
        return values.gather(1, action[:, None]).squeeze(1)
    return values.gather(1, action[:, None, None].expand(-1, 1, values.shape[2])).squeeze(1)


def double_q_value(next_q_online: Tensor, next_q_target: Tensor) -> Tensor:
    """Q_target(s', argmax_a Q_online(s', a)): [B, A] and [B, A] to [B].

    Van Hasselt, Guez and Silver (2016), section "Double DQN": one network chooses, the other judges.
    """
    return of_action(next_q_target, next_q_online.argmax(dim=1))


def soft_policy(q_values: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """pi = softmax(q / tau), and tau log pi, both [B, A].

    Vieillard, Pietquin and Geist (2020), equation 4; tau log pi = q - max q - tau logsumexp((q - max q) / tau) stays
    exact for small tau (appendix B.1).
    """
    shifted = q_values - q_values.max(dim=1, keepdim=True).values
    scaled_log_policy = shifted - temperature * torch.logsumexp(shifted / temperature, dim=1, keepdim=True)
    return torch.softmax(q_values / temperature, dim=1), scaled_log_policy


def munchausen_bonus(scaled_log_policy: Tensor, action: Tensor, scale: float, lowest: float) -> Tensor:
    """alpha * [tau log pi(a | s)] clipped to [l0, 0]: [B, A] and int64 [B] to [B]. Vieillard et al. (2020), sections
    2 and 4."""
    return scale * of_action(scaled_log_policy, action).clamp(min=lowest, max=0.0)


def soft_entropy(policy: Tensor, scaled_log_policy: Tensor) -> Tensor:
    """-sum_a pi(a) tau log pi(a): [B, A] and [B, A] to [B]."""
    return -(policy * scaled_log_policy).sum(dim=1)


def expected_under(policy: Tensor, values: Tensor) -> Tensor:
    """sum_a pi(a) values(a): policy [B, A], values [B, A] or [B, A, Z], to [B] or [B, Z]."""
    return (policy * values).sum(dim=1) if values.ndim == 2 else (policy[:, :, None] * values).sum(dim=1)
