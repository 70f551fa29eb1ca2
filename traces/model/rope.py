"""Rotary position embeddings: which elements of a head turn together, how fast, and how the angles are stretched.

    plain     base^(-2i / n)
    linear    every frequency by one divisor
    llama3    slow frequencies by a divisor, fast ones not, a blend between
    YaRN      the same by the turns within the original context, and cos and sin are enlarged
    LongRoPE  a divisor per frequency: one list for sessions within the original context, another for longer ones
"""
import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Rope:
    """Element i of a head turns with element i + n_rotated / 2; elements from n_rotated on stay."""
    base: float
    n_rotated: int
    divisors: tuple = ()     # of the frequencies, [n_rotated / 2]; none: all 1
    amplitude: float = 1.0   # of cos and sin, so of the elements that turn

    def frequencies(self):
        """Radians per position [n_rotated / 2], float64: a float32 angle is 2e-3 rad off at position 32K."""
        f = float(self.base) ** (-np.arange(0, self.n_rotated, 2) / self.n_rotated)
        return f / np.asarray(self.divisors, float) if len(self.divisors) else f


@dataclass(frozen=True)
class LongRope:
    """LongRoPE: the Rope of a session of more than `context` tokens. Programs decide by the length they are set up for
    (llama.cpp, vLLM) or have reached (transformers); here a session turns by one list from its first token to its last."""
    context: int
    rope: Rope


def llama3_divisors(rope, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings):
    """Divisors of Llama 3.1: slow frequencies by factor, fast ones by 1, a blend of both between."""
    f = rope.frequencies()
    turns = original_max_position_embeddings * f / (2 * math.pi)  # within the original context
    share = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
    return tuple(1 / ((1 - share) / factor + share))


def yarn_amplitude(factor, weight=1.0):
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1


def yarn(rope, factor, original, beta_fast=32, beta_slow=1, amplitude=None, truncate=True):
    """The Rope by YaRN (arXiv 2309.00071). A frequency that turns beta_fast times or more within the original context
    stays, one that turns beta_slow times or less is divided by factor; between, by the element's index."""
    n = rope.n_rotated

    def index_of(turns):
        return n * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope.base))

    first, last = index_of(beta_fast), index_of(beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, n - 1)
    stretched = np.clip((np.arange(n // 2) - first) / ((last - first) or 0.001), 0, 1)
    return replace(rope, divisors=tuple(1 / (stretched / factor + 1 - stretched)),
                   amplitude=yarn_amplitude(factor) if amplitude is None else amplitude)


def longrope_amplitude(factor, original):
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
