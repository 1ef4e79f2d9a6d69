"""Blackjack as in Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, example 5.1: an
infinite deck, a dealer who draws to 17, and a player who hits or sticks. Every probability is worked out exactly.

The same rules as Gymnasium's `Blackjack-v1` with `sab=True`, whose observation hides whether 21 was dealt at once (a
natural, which beats a drawn 21): here that is a state of its own, without which there would be no transition table.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from envs.core import TransitionTable
from envs.table_env import TableEnv

STICK, HIT = 0, 1
NATURAL = "natural"
HANDS: tuple[tuple[int, bool] | str, ...] = (
    *((total, False) for total in range(4, 22)),
    *((total, True) for total in range(12, 22)),
    NATURAL,
)
"""What the player can hold: sum and whether an ace counts 11; 21 with two cards is `NATURAL`."""
DEALER_CARDS = tuple(range(1, 11))
"""What the dealer shows: 1 is an ace, 10 also a face."""
CARDS = {card: (1 / 13 if card < 10 else 4 / 13) for card in DEALER_CARDS}
"""Probability of each card, at every draw."""


def blackjack(name: str, num_envs: int, *, render: bool = False) -> Blackjack:
    """N tables. Actions: 0 stick, 1 hit. Reward at the end: 1 won, 0 drawn, -1 lost; a game has no discount."""
    return Blackjack(name, num_envs)


def state_number(hand: tuple[int, bool] | str, dealer: int) -> int:
    """The state in which the player holds `hand` (of HANDS) and the dealer shows `dealer`, 1 to 10."""
    return HANDS.index(hand) * len(DEALER_CARDS) + dealer - 1


class Blackjack(TableEnv):
    """290 states: 29 hands before 10 cards of the dealer. Restorable; `render` needs no preparation."""

    def __init__(self, name: str, num_envs: int) -> None:
        protocol = {"rules": "Sutton and Barto, example 5.1", "deck": "infinite"}
        super().__init__(name, num_envs, blackjack_table(), protocol=protocol, default_env_steps=2_000_000)

    def render(self, lane: int = 0) -> np.ndarray:
        """Both hands in words, on green."""
        from PIL import Image, ImageDraw, ImageFont

        hand, dealer = divmod(self._states[lane], len(DEALER_CARDS))
        held = HANDS[hand]
        mine = "natural 21" if isinstance(held, str) else f"{held[0]}{' with a usable ace' if held[1] else ''}"
        picture = Image.new("RGB", (360, 240), (24, 96, 60))
        pen, large, small = ImageDraw.Draw(picture), ImageFont.load_default(30), ImageFont.load_default(15)
        for y, who, what in (
            (30, "dealer shows", "ace" if dealer == 0 else str(dealer + 1)),
            (130, "player has", mine),
        ):
            pen.text((30, y), who, (180, 220, 195), small)
            pen.text((30, y + 24), what, (245, 245, 245), large)
        return np.asarray(picture)


def add_card(total: int, usable: bool, card: int) -> tuple[int, bool]:
    """Sum and usable ace after one more card; a sum above 21 is bust, and never has a usable ace."""
    total, usable = (total + 11, True) if card == 1 and total + 11 <= 21 else (total + card, usable)
    return (total - 10, False) if total > 21 and usable else (total, usable)


@cache
def _dealer_from(total: int, usable: bool) -> tuple[tuple[int, float], ...]:
    """Distribution of the dealer's last sum, 22 for every bust, who holds at least two cards."""
    if total >= 17:
        return ((min(total, 22), 1.0),)
    found: dict[int, float] = {}
    for card, chance in CARDS.items():
        for last, probability in _dealer_from(*add_card(total, usable, card)):
            found[last] = found.get(last, 0.0) + chance * probability
    return tuple(found.items())


def dealer_outcomes(shown: int) -> dict[int | str, float]:
    """Distribution of the dealer's last sum behind the card shown: 17 to 21, 22 for bust, or `natural`."""
    found: dict[int | str, float] = {}
    for card, chance in CARDS.items():
        if {shown, card} == {1, 10}:
            found[NATURAL] = found.get(NATURAL, 0.0) + chance
            continue
        for last, probability in _dealer_from(*add_card(*add_card(0, False, shown), card)):
            found[last] = found.get(last, 0.0) + chance * probability
    return found


def _result(hand: tuple[int, bool] | str, dealer: int | str) -> float:
    """1, 0 or -1 where the player sticks with `hand` and the dealer ends with `dealer`; a natural beats a drawn 21."""
    if hand == NATURAL:
        return 0.0 if dealer == NATURAL else 1.0
    if dealer == NATURAL:
        dealer = 21
    last = 0 if dealer == 22 else dealer
    assert not isinstance(hand, str) and isinstance(last, int)
    return float((hand[0] > last) - (hand[0] < last))


def blackjack_table() -> TransitionTable:
    """The table: 290 states, 2 actions, up to 11 outcomes (ten cards and bust); no time limit."""
    states, outcomes = len(HANDS) * len(DEALER_CARDS), len(CARDS) + 1
    shape = (states, 2, outcomes)
    next_state = np.broadcast_to(np.arange(states)[:, None, None], shape).copy()
    probability, reward, terminated = np.zeros(shape), np.zeros(shape), np.ones(shape, np.bool_)
    for hand in HANDS:
        for dealer in DEALER_CARDS:
            state = state_number(hand, dealer)
            for last, chance in dealer_outcomes(dealer).items():
                k = int(_result(hand, last)) + 1  # lost, drawn, won
                probability[state, STICK, k] += chance
                reward[state, STICK, k] = k - 1.0
            for k, (card, chance) in enumerate(CARDS.items()):
                total, usable = add_card(*((21, True) if isinstance(hand, str) else hand), card)
                if total > 21:
                    probability[state, HIT, -1] += chance
                    reward[state, HIT, -1] = -1.0
                    continue
                probability[state, HIT, k] = chance
                next_state[state, HIT, k] = state_number((total, usable), dealer)
                terminated[state, HIT, k] = False
    initial = np.zeros(states)
    for first, one in CARDS.items():
        for second, two in CARDS.items():
            held = add_card(*add_card(0, False, first), second)
            for dealer, three in CARDS.items():
                initial[state_number(NATURAL if held[0] == 21 else held, dealer)] += one * two * three
    return TransitionTable(next_state, probability, reward, terminated, initial / initial.sum(), None)
