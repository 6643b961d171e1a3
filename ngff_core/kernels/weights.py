"""The weights of the two Gaussians: ITK's discrete one, and scipy's sampled one.

For a step k both have a standard deviation of √((k² - 1) / (8 ln 2)) samples. The discrete
Gaussian is computed as ``itk::GaussianOperator`` computes it, the sampled one as
``scipy.ndimage.gaussian_filter`` with ``truncate=4``, each to the last bit.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from ngff_core.errors import InvalidOptionError

LARGEST_STEP = 62
"""The largest step that has discrete weights. exp(t) overflows at step 63, where ITK's own
weights are NaN. There is no substitute: with at most 32 weights on a side the filter covers
only 1.2 standard deviations at step 62, and would hardly prevent aliasing beyond."""


def _polynomial(x: float, *coefficients: float) -> float:
    """The polynomial at ``x``; the coefficient of the lowest power comes first.

    Evaluated in Horner's order, as ITK does: another order changes the last bit.
    """
    value = 0.0
    for coefficient in reversed(coefficients):
        value = coefficient + x * value
    return value


def _bessel_i0(t: float) -> float:
    """I_0(t) for t >= 0, by formulas 9.8.1 and 9.8.2 of Abramowitz and Stegun."""
    if t < 3.75:
        small = (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
        return _polynomial((t / 3.75) ** 2, *small)
    large = (0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281)
    larger = (-0.02057706, 0.02635537, -0.01647633, 0.00392377)
    return math.exp(t) / math.sqrt(t) * _polynomial(3.75 / t, *large, *larger)


def _bessel_i1(t: float) -> float:
    """I_1(t) for t >= 0, by formulas 9.8.3 and 9.8.4 of Abramowitz and Stegun."""
    if t < 3.75:
        small = (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411)
        return t * _polynomial((t / 3.75) ** 2, *small)
    large = (0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555)
    larger = (0.02282967, -0.02895312, 0.01787654, -0.00420059)
    return _polynomial(3.75 / t, *large, *larger) * (math.exp(t) / math.sqrt(t))


def _bessel(n: int, t: float) -> float:
    """I_n(t), for n >= 2 by the downward recurrence of ``itk::GaussianOperator``.

    ITK starts the recurrence at 2 (n + int(√(40 n))), which is too low for large t: at
    t = 122 some weights are 0.5 % off. The error is kept: a better function would give
    another radius (28 instead of 29 at step 26) and other samples than ITK's.
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
    """Variance of the Gaussian for ``step``, in square samples: (step² - 1) / (8 ln 2).

    Computed as the square of its rounded root, as the itkwasm module does. Otherwise the
    weights for steps 2, 5, 7, 8, 10 ... differ from the module's in their last bit, which
    shows where samples of both signs nearly cancel.
    """
    sigma = _sigma(step)
    return sigma * sigma


def _sigma(step: int) -> float:
    """Standard deviation of the Gaussian for ``step``, in samples."""
    return math.sqrt((step * step - 1) / (8 * math.log(2)))


@cache
def gaussian_weights(step: int) -> tuple[float, ...]:
    """The 2 radius + 1 weights of the discrete Gaussian for ``step``.

    Weight n is exp(-t) I_n(t), where t is the variance and I_n the modified Bessel function
    (T. Lindeberg, "Scale-space for discrete signals", 1990). Weights are added on both sides
    until their sum reaches 0.99, at most 32 on a side, and divided by that sum.

    Raises ``InvalidOptionError`` for steps above `LARGEST_STEP`.

    >>> gaussian_weights(1)
    (1.0,)
    >>> [round(w, 4) for w in gaussian_weights(2)]
    [0.0219, 0.164, 0.6282, 0.164, 0.0219]
    """
    if step == 1:
        return (1.0,)
    if step > LARGEST_STEP:
        raise InvalidOptionError(
            f"scale_factors: a step of {step} from one level to the next is larger than "
            f"{LARGEST_STEP}, the largest step of the discrete Gaussian; put levels in between"
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
    """Radius of the discrete Gaussian for ``step``, in samples; 0 for step 1.

    >>> [gaussian_radius(k) for k in (1, 2, 3, 4, 5, 6, 8, 10, 16, 62)]
    [0, 2, 3, 4, 5, 7, 9, 11, 18, 32]
    """
    return len(gaussian_weights(step)) // 2


@cache
def sampled_weights(step: int) -> tuple[float, ...]:
    """The 2 radius + 1 weights of scipy's Gaussian for ``step``.

    The Gaussian density at integer distances, divided by the sum. numpy's ``exp`` and ``sum``
    are the ones that scipy uses; others differ in the last bit.
    """
    if step == 1:
        return (1.0,)
    radius, sigma = sampled_radius(step), _sigma(step)
    x = np.arange(-radius, radius + 1)
    phi = np.exp(-0.5 / (sigma * sigma) * x**2)
    return tuple((phi / phi.sum()).tolist())


def sampled_radius(step: int) -> int:
    """Radius of scipy's Gaussian for ``step``: four standard deviations, to the nearest sample.

    >>> [sampled_radius(k) for k in (1, 2, 3, 4, 8)]
    [0, 3, 5, 7, 13]
    """
    return int(4.0 * _sigma(step) + 0.5)
