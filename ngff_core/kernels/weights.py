"""The weights of the discrete Gaussian, as ``itk::GaussianOperator`` computes them."""

from __future__ import annotations

import math
from functools import cache

from ngff_core.errors import InvalidOptionError

# exp(t) overflows at step 63: ITK's own weights are NaN there. No substitute is put in its
# place, for with at most 32 weights a side the filter covers 1.2 standard deviations at
# step 62 already, and would hardly keep aliasing away beyond.
LARGEST_STEP = 62


def _polynomial(x: float, *coefficients: float) -> float:
    """Lowest power first, in Horner's order: it decides the last bit."""
    value = 0.0
    for coefficient in reversed(coefficients):
        value = coefficient + x * value
    return value


def _bessel_i0(t: float) -> float:
    """I_0(t) for t >= 0, by Abramowitz & Stegun 9.8.1 and 9.8.2."""
    if t < 3.75:
        small = (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
        return _polynomial((t / 3.75) ** 2, *small)
    large = (0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281)
    larger = (-0.02057706, 0.02635537, -0.01647633, 0.00392377)
    return math.exp(t) / math.sqrt(t) * _polynomial(3.75 / t, *large, *larger)


def _bessel_i1(t: float) -> float:
    """I_1(t) for t >= 0, by Abramowitz & Stegun 9.8.3 and 9.8.4."""
    if t < 3.75:
        small = (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411)
        return t * _polynomial((t / 3.75) ** 2, *small)
    large = (0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555)
    larger = (0.02282967, -0.02895312, 0.01787654, -0.00420059)
    return _polynomial(3.75 / t, *large, *larger) * (math.exp(t) / math.sqrt(t))


def _bessel(n: int, t: float) -> float:
    """I_n(t), by the downward recurrence of ``itk::GaussianOperator`` for n >= 2.

    ITK starts it at 2 (n + int(√(40 n))), which is too low for large t: at t = 122 some
    weights are 0.5 % off. A better function would give another radius (28 for 29 at
    step 26), and samples that depend on where a window ends.
    """
    if n < 2:
        return (_bessel_i0, _bessel_i1)[n](t)
    above, here, found = 0.0, 1.0, 0.0
    for j in range(2 * (n + int(math.sqrt(40 * n))), 0, -1):
        above, here = here, above + j * (2.0 / t) * here
        if abs(here) > 1e10:
            above, here, found = above * 1e-10, here * 1e-10, found * 1e-10
        if j == n:
            found = above
    return found * (_bessel_i0(t) / here)


def gaussian_variance(step: int) -> float:
    """Variance in square samples of the Gaussian for ``step``: (step² - 1) / (8 ln 2).

    The square of its rounded root, as the itkwasm module computes it. Without that detour
    the weights for steps 2, 5, 7, 8, 10 ... differ from the module's in their last bit,
    which shows where samples of both signs nearly cancel.
    """
    sigma = math.sqrt((step * step - 1) / (8 * math.log(2)))
    return sigma * sigma


@cache
def gaussian_weights(step: int) -> tuple[float, ...]:
    """Weights of the discrete Gaussian for ``step``, all 2 radius + 1 of them.

    They are exp(-t) I_n(t) with t the variance, taken until their two-sided sum reaches
    0.99, up to 32 on a side, and divided by that sum.

    >>> gaussian_weights(1)
    (1.0,)
    >>> [round(w, 4) for w in gaussian_weights(2)]
    [0.0219, 0.164, 0.6282, 0.164, 0.0219]
    """
    if step == 1:
        return (1.0,)
    if step > LARGEST_STEP:
        raise InvalidOptionError(
            f"scale_factors: a step of {step} from one level to the next is more than the "
            f"{LARGEST_STEP} that the discrete Gaussian can do; put levels in between"
        )
    t = gaussian_variance(step)
    weights = [math.exp(-t) * _bessel(0, t), math.exp(-t) * _bessel(1, t)]
    total = weights[0] + 2 * weights[1]
    while total < 0.99 and len(weights) <= 32:
        weights.append(math.exp(-t) * _bessel(len(weights), t))
        total += 2 * weights[-1]
    side = tuple(w / total for w in weights)
    return side[:0:-1] + side


@cache
def gaussian_radius(step: int) -> int:
    """Radius in samples of the discrete Gaussian for ``step``; 0 for step 1.

    >>> [gaussian_radius(k) for k in (1, 2, 3, 4, 5, 6, 8, 10, 16, 62)]
    [0, 2, 3, 4, 5, 7, 9, 11, 18, 32]
    """
    return len(gaussian_weights(step)) // 2
