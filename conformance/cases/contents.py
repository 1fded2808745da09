"""Contents: how the arrays of a case are filled, from a seed.

The exact lane draws integers so small that *every* partial sum, in any order, is representable in the
dtype; a correct implementation is then bit-equal to the reference whatever its summation order. Within
that limit the range is as wide as it can be: by the Schwartz–Zippel lemma one case of a wrong bilinear map
passes with probability at most 2 divided by the number of values drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

MANTISSA_BITS: Mapping[str, int] = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
"""Integers up to 2 to this power are exact in the dtype."""


HALF_TYPES = ("float16", "bfloat16")
"""Floating-point dtypes of two bytes, whose sums are accumulated in a wider one."""


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype has fractions, infinities and NaN. NumPy does not know it of bfloat16."""
    return dtype.kind == "f" or dtype.name in MANTISSA_BITS


def smallest_subnormal(dtype: str) -> float:
    """The distance of numbers around zero."""
    # bfloat16 has the exponents of float32, whose smallest normal number is 2^−126.
    return 2.0**-133 if dtype == "bfloat16" else float(np.finfo(dtype).smallest_subnormal)


def exact_limit(dtype: str) -> int:
    """Largest magnitude up to which every integer is representable in `dtype`."""
    if dtype in MANTISSA_BITS:
        return 1 << MANTISSA_BITS[dtype]
    return int(np.iinfo(dtype).max)


def unit_roundoff(dtype: str) -> float:
    """Half the distance from 1 to the next number: u in the error bounds."""
    return 2.0 ** -MANTISSA_BITS[dtype]


def exact_magnitude(dtype: str, terms: int, degree: int, scale: int = 1) -> int:
    """Largest M such that a sum of `terms` products of `degree` integers in [−M, M] stays exact.

    At least 1, even where that is too much (see `convform.conformance.cases.case.build`). `scale` is a
    factor that every term may still be multiplied by (the divisors of an average).
    """
    budget = (exact_limit(dtype) - 1) // max(terms * scale, 1)
    magnitude = math.isqrt(budget) if degree == 2 else budget
    # Beyond 2^20 nothing is gained, and numbers get hard to read.
    return max(1, min(magnitude, 1 << 20))


def wide(rng: np.random.Generator, shape: tuple[int, ...], magnitude: int) -> np.ndarray:
    """Integers, uniform in [−magnitude, magnitude]."""
    return rng.integers(-magnitude, magnitude, shape, endpoint=True)


def distinct(rng: np.random.Generator, shape: tuple[int, ...], magnitude: int) -> np.ndarray:
    """Integers without repetition, about half of them negative: no ties (but where the dtype has too few)."""
    size = math.prod(shape)
    if 2 * magnitude + 1 < size:
        return wide(rng, shape, magnitude)
    low = -min(magnitude, size)
    high = min(magnitude, low + 2 * size)
    return rng.permutation(np.arange(low, high + 1))[:size].reshape(shape)


def negative(rng: np.random.Generator, shape: tuple[int, ...], magnitude: int) -> np.ndarray:
    """Distinct negative integers: whatever a border contributes would win."""
    size = math.prod(shape)
    return -1 - rng.permutation(size).reshape(shape)


def ties(rng: np.random.Generator, shape: tuple[int, ...], magnitude: int) -> np.ndarray:
    """Integers from {−1, 0, 1}: most windows hold their maximum more than once."""
    return rng.integers(-1, 1, shape, endpoint=True)


def real(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Float64 numbers of either sign over many binades, with pairs that cancel."""
    # Half types overflow early: products of two numbers below 2^5 leave room for sums of 64 of them.
    binades = 8 if MANTISSA_BITS[dtype] > 11 else 2
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-binades, binades, shape)
    flat = values.reshape(-1)
    half = flat.size // 2
    # Neighbours that almost cancel: the sum is small, the magnitudes are not.
    cancel = rng.random(half) < 0.5
    flat[1 : 2 * half : 2][cancel] = -flat[0 : 2 * half : 2][cancel] * (1 + 2.0**-12)
    return values


def special(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Small integers, infinities, NaN and zeros of both signs, in float64."""
    values = rng.integers(-3, 3, shape, endpoint=True).astype(np.float64)
    kind = rng.random(shape)
    for low, value in ((0.7, np.nan), (0.76, np.inf), (0.82, -0.0)):
        values[kind > low] = value
    values[kind > 0.88] = -np.inf
    return values


def infinite(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Mostly −∞ with a few small integers: many windows hold nothing else."""
    values = np.full(shape, -np.inf)
    values[rng.random(shape) > 0.8] = -2.0
    return values


def scaled(rng: np.random.Generator, array: np.ndarray, dtype: str, *, far: bool) -> np.ndarray:
    """Multiply integers by a power of two, which keeps every sum exact; the seed decides by which.

    Parameters
    ----------
    rng
        Source of the decision.
    array
        Integers.
    dtype
        The dtype that they are meant for.
    far
        Whether they may be moved far away from zero, beyond numbers that are taken for infinite, such as
        −1e9; otherwise they may be halved, so that whoever cuts off fractions is seen.
    """
    decision = rng.integers(3)
    if decision == 0 and dtype in MANTISSA_BITS:
        return array / 2
    if decision == 1 and far:
        taken = int(np.abs(array).max(initial=1)).bit_length()
        room = 14 if dtype == "float16" else 60 if dtype in MANTISSA_BITS else np.iinfo(dtype).bits - 1
        return array * (1 << max(min(room, 60) - taken, 0))
    return array


INTEGER_CONTENTS = {"wide": wide, "distinct": distinct, "negative": negative, "ties": ties}
FLOAT_CONTENTS = {"real": real, "special": special, "infinite": infinite}
