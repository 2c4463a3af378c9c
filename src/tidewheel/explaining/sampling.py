"""Shapley values of any model by sampling (Štrumbelj & Kononenko, Explaining prediction models, 2014).

The features of a background row are replaced by the row's own, one after the other in a random order; what the answer
moves by is a sample of each feature's value. Every order is also taken backwards, against the same background row,
which cancels most of the noise (Mitchell et al., Sampling permutations for Shapley value estimation, 2022).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidewheel.explaining.records import Contributions, Floats, Method, Output

PAIRS = 256  # orders, each with its reverse, that are planned
_BATCH = 4_096  # rows that the model scores at once

Ask = Callable[[Sequence[Sequence[Any]]], Floats]  # rows of values to [rows, outputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledShap:
    """Values of any model, with standard errors."""

    ask: Ask  # the model
    background: Sequence[Sequence[Any]]  # rows that stand for what is not known
    output: Output  # what is made up
    pairs: int = PAIRS  # orders, each with its reverse
    seed: int = 0  # of the orders; the same row is explained the same way
    method: Method = "sampling"  # with standard errors

    def explain_row(self, row: Sequence[Any], deadline: float) -> Contributions:
        """Explain one row; when the time ends, there are fewer orders and larger errors."""
        random = np.random.default_rng(self.seed)
        count = len(row)
        each = max(1, min(self.pairs, _BATCH // (2 * (count + 1))))
        samples: list[Floats] = []
        bases: list[Floats] = []
        turn = random.permutation(len(self.background))
        done = 0
        while done < self.pairs and (done < 2 or time.perf_counter() < deadline):
            many = max(min(each, self.pairs - done, 4 if not done else each), 2)
            others = [self.background[turn[place % len(turn)]] for place in range(done, done + many)]
            moved, base = self._moved(row, others, random)
            samples.append(moved)
            bases.append(base)
            done += many
        found = np.concatenate(samples)
        return Contributions(
            base=np.concatenate(bases).mean(axis=0),
            values=found.mean(axis=0),
            errors=found.std(axis=0, ddof=1) / np.sqrt(len(found)),
            answer=self.ask([row])[0],
            complete=done >= self.pairs,
        )

    def _moved(
        self, row: Sequence[Any], others: Sequence[Sequence[Any]], random: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Return [pairs, features, outputs] what the answer moved by, and [pairs, outputs] where it began."""
        count = len(row)
        walks: list[list[Any]] = []
        orders: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        for other in others:
            order = random.permutation(count)
            for way in (order, order[::-1]):
                mixed = list(other)
                walks.append(list(mixed))
                for column in way:
                    mixed[column] = row[column]
                    walks.append(list(mixed))
                orders.append(way)
        answers = self.ask(walks).reshape(len(orders), count + 1, -1)
        steps = np.diff(answers, axis=1)
        moved = np.zeros_like(steps)
        for place, way in enumerate(orders):
            moved[place, way] = steps[place]
        paired = moved.reshape(len(others), 2, count, -1).mean(axis=1)
        return paired, answers[::2, 0]
