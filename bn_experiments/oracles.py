"""Oracles: what theory says of networks, as formulas.

What a claim names is a function of a configuration, beside the probe that measures, in `<probe>_oracles.py`.

The formulas hold for infinitely wide layers whose weights are drawn from N(0, 2 / fan_in) without biases, with examples
that are drawn from N(0, 1) in many dimensions. At a finite width they are off by about 1 / width.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Config = Mapping[str, Any]
RECTIFIED_VARIANCE = (1 - 1 / math.pi) / 2  # of max(z, 0), z ~ N(0, 1)


def rectified_correlation(c: float) -> float:
    """J(c), the normalized second moment of two rectified Gaussians, [sqrt(1 - c^2) + (pi - arccos c) c] / pi.

    For (u, v) Gaussian of variance 1 and correlation c it is 2 E relu(u) relu(v). So it is the cosine that two examples
    have after a wide layer with a relu, if they had the cosine c before it.

    Source: Cho & Saul 2009, Kernel methods for deep learning (the arc-cosine kernel of degree 1).

    >>> round(rectified_correlation(0.0), 4), rectified_correlation(1.0)
    (0.3183, 1.0)
    """
    return (math.sqrt(max(0.0, 1 - c * c)) + (math.pi - math.acos(c)) * c) / math.pi


def rectified_slope(c: float) -> float:
    """J'(c), the share of examples on which both of two Gaussians of correlation c are positive, times two.

    It is (pi - arccos c) / pi.

    >>> rectified_slope(0.0)
    0.5
    """
    return (math.pi - math.acos(c)) / math.pi


def bn_gradient_factor(batch: int, activation: str = "relu") -> float:
    """The factor by which a layer with batch norm raises the squared gradient, at initialization, backwards.

    With the relu it is [B - 2 + J + J'] / [(B - 3) (1 - J)] at c = -1 / (B - 1), which is pi / (pi - 1) = 1.467 for
    large batches; with the identity (B - 2) / (B - 3).

    Args:
        batch: The number B > 3 of examples in the batch.
        activation: relu or identity.

    Source: Yang et al. 2019, arXiv:1902.08129, theorem 8 and equation 25, simplified.

    >>> [round(bn_gradient_factor(batch), 3) for batch in (8, 16, 32, 128, 512)]
    [1.788, 1.59, 1.522, 1.48, 1.47]
    """
    if batch < 4 or activation not in ("relu", "identity"):
        raise ValueError(f"there is no such factor for {activation} and batches of {batch}; relu or identity, above 3")
    if activation == "identity":
        return (batch - 2) / (batch - 3)
    c = -1 / (batch - 1)
    j = rectified_correlation(c)
    return (batch - 2 + j + rectified_slope(c)) / ((batch - 3) * (1 - j))


def cosines_by_depth(depth: int, first: float = 0.0) -> list[float]:
    """The mean cosine of two examples' pre-activations at layers 1 to depth without a norm, or with layer norm.

    C_1 = `first`, C_{l+1} = J(C_l), which goes to 1 as 1 - 9 pi^2 / (2 l^2).

    Source: Daneshmand et al. 2020, arXiv:2003.01652; the recursion: Cho & Saul 2009.

    >>> [round(each, 3) for each in cosines_by_depth(6)]
    [0.0, 0.318, 0.494, 0.605, 0.681, 0.736]
    """
    found = [first]
    while len(found) < depth:
        found.append(rectified_correlation(found[-1]))
    return found


def centred_correlation(c: float) -> float:
    """The cosine of two examples behind a relu and a layer norm, (J(c) - 1 / pi) / (1 - 1 / pi).

    Layer norm takes off the mean over units, 1 / sqrt(2 pi) for a rectified N(0, 1), which all examples share. Of the
    second moment J(c) / 2 of two rectified examples that leaves (J(c) - 1 / pi) / 2. At 0 its slope is
    1 / (2 (1 - 1 / pi)) = 0.73, at 1 it is 1.47: in a deep network orthogonal examples stay so, and parallel ones
    part.

    >>> centred_correlation(0.0), centred_correlation(1.0)
    (0.0, 1.0)
    """
    return (rectified_correlation(c) - 1 / math.pi) / (1 - 1 / math.pi)


def bn_cosine(batch: int) -> float:
    """The mean cosine of two examples' pre-activations behind a layer with batch norm and a relu, at any depth.

    Batch norm makes examples of a batch of B as far apart as they can be, cosine -1 / (B - 1); the relu takes that to
    J(-1 / (B - 1)), which is 1 / pi for large batches.

    Source: Daneshmand et al. 2021, arXiv:2106.03970, theorem 1.

    >>> round(bn_cosine(64), 4)
    0.3104
    """
    return rectified_correlation(-1 / (batch - 1))


def residual_moments(links: int, gain: float = 1.0, first: float = 2.0) -> list[tuple[float, float]]:
    """The second moment and the variance over examples of the trunk h of h + s W relu(h), before and behind each link.

    Of q = E h^2 and m = E h h' for two examples, a link makes q + gain q and m + gain q J(m / q), where gain is s^2;
    the variance over examples is q - m. Without a norm both grow exponentially, by 2 with every link for s = 1.

    Args:
        links: The number of links.
        gain: s^2, the square of what scales the branch.
        first: q behind the first linear map, 2 for examples from N(0, 1); m is 0 there.

    Returns:
        q and the variance at links + 1 places.

    Source: De & Smith 2020, arXiv:2002.10444, for q; the recursion of the cosine: Cho & Saul 2009.

    >>> [round(v / 2, 3) for _, v in residual_moments(3)]
    [1.0, 1.682, 2.878, 4.993]
    """
    q, m, found = first, 0.0, [(first, first)]
    for _ in range(links):
        q, m = q * (1 + gain), m + gain * q * rectified_correlation(min(1.0, m / q))
        found.append((q, q - m))
    return found


def fourth_moment(batch: int) -> float:
    """E z^4 of Gaussian numbers that are standardized over a batch of B, 3 (B - 1) / (B + 1).

    The square of one of B standardized numbers, over its largest value B - 1, has the distribution
    Beta(1/2, (B - 2)/2): the vector of them is uniform on a sphere. So none is larger than sqrt(B - 1).

    >>> fourth_moment(2), fourth_moment(5)
    (1.0, 2.0)
    """
    return 3 * (batch - 1) / (batch + 1)


def rectified_mean(batch: int) -> float:
    """E max(z, 0) of Gaussian numbers that are standardized over a batch of B.

    sqrt(B - 1) Gamma((B - 1) / 2) / (2 sqrt(pi) Gamma(B / 2)), which for large batches is 1 / sqrt(2 pi) = 0.399.

    It is the mean of the distribution in `fourth_moment`.

    >>> round(rectified_mean(2), 4), round(rectified_mean(10**6), 4)
    (0.5, 0.3989)
    """
    gammas = math.exp(math.lgamma((batch - 1) / 2) - math.lgamma(batch / 2))
    return math.sqrt((batch - 1) / math.pi) * gammas / 2


def running_mean_error(batch: int, momentum: float) -> float:
    """The variance of a running mean at frozen weights, m / (2 - m) / B, in units of the variance of what is averaged.

    It is an exponential average of means of independent batches of B, with torch's momentum m.

    >>> round(running_mean_error(8, 0.1), 5)
    0.00658
    """
    return momentum / (2 - momentum) / batch


def running_variance_error(batch: int, momentum: float) -> float:
    """The relative variance of a running variance at frozen weights, 2 m / ((2 - m) (B - 1)), of Gaussian numbers.

    The unbiased variance of a batch of B has the variance 2 sigma^4 / (B - 1); torch's momentum is m.

    >>> round(running_variance_error(8, 0.1), 4)
    0.015
    """
    return 2 * momentum / (2 - momentum) / (batch - 1)


def dropout_shift(kept: float) -> float:
    """The variance of a rectified N(0, 1) in evaluation mode over that in training mode, behind dropout.

    v / [(c^2 + v) / k - c^2], c = 1 / sqrt(2 pi) the mean and v = (1 - 1 / pi) / 2 the variance of the unit, k the
    probability that a unit is kept. A linear map of many independent units passes the ratio on.

    Source: Li et al. 2019, arXiv:1801.05134.

    >>> [round(dropout_shift(kept), 4) for kept in (0.9, 0.7, 0.5)]
    [0.8598, 0.614, 0.4054]
    """
    squared_mean = 1 / (2 * math.pi)
    return RECTIFIED_VARIANCE / ((squared_mean + RECTIFIED_VARIANCE) / kept - squared_mean)


def angle_of_sgd(lr: float, weight_decay: float, momentum: float = 0.0) -> float:
    """The angle by which a step of SGD turns a scale-invariant weight in equilibrium, sqrt(2 eta lambda / (1 + alpha)).

    There the decay, which shortens w, and the gradient, which is at right angles to w and lengthens it, keep |w| where
    it is, whatever the size of the gradient. The decay is part of the gradient, as in torch.optim.SGD.

    Source: Wan et al. 2020, arXiv:2006.08419, theorems 1 and 3.

    >>> round(angle_of_sgd(0.1, 0.005), 5), round(angle_of_sgd(0.05, 0.005, 0.9), 5)
    (0.03162, 0.01622)
    """
    return math.sqrt(2 * lr * weight_decay / (1 + momentum))


def angle_of_adam(lr: float, weight_decay: float, beta1: float) -> float:
    """The angle by which a step of AdamW turns a scale-invariant weight in equilibrium.

    It is sqrt(2 eta lambda (1 - beta1) / (1 + beta1)): steps of unit size in each coordinate, of which momentum
    averages independent gradients. A gradient that persists turns them further.

    It follows from the balance of decay and steps, as in `angle_of_sgd`; that AdamW has such an angle is the finding of
    Kosson et al. 2024, arXiv:2305.17212.

    >>> round(angle_of_adam(0.001, 0.5, 0.9), 5)
    0.00725
    """
    return math.sqrt(2 * lr * weight_decay * (1 - beta1) / (1 + beta1))


def bn_rnn_factor(gain: float, input_variance: float | None = None) -> float:
    """The factor by which a time step of a tanh RNN with batch norm multiplies the squared gradient, backwards.

    With a norm on each term h = tanh(s), s = gain (BN(W_h h) + BN(W_x x)), where each BN makes the variance 1. For a
    wide network and a large batch s is N(0, 2 gain^2). The tanh multiplies the squared gradient by E tanh'(s)^2, and BN
    by gain^2 / E tanh(s)^2, since it divides by the deviation of W_h h:

    gain^2 E[tanh'(s)^2] / E[tanh(s)^2].

    With one norm on the sum s = gain BN(W_h h + W_x x) is N(0, gain^2), and BN divides by the deviation of the sum, so
    that the variance v of the input term is added to E tanh(s)^2 below the line. Inputs that all examples share have
    v = 0, and then it is the same for both places of the norm.

    At small gains the first factor is 1 / 2, since half of what goes into the tanh is the state's, and the second one
    is gain^2 / (gain^2 + v), since the state is small beside the input.

    Args:
        gain: The scale > 0 of the norms, gamma.
        input_variance: The variance v of W_x x over the examples, with one norm on the sum; 0 with inputs that all
            examples share. None: a norm on each term.

    Source: The setting is that of Cooijmans et al. 2016, arXiv:1603.09025, section 4; the formula is ours, for wide
    networks with a random orthogonal W_h.

    >>> [round(bn_rnn_factor(gain), 3) for gain in (0.1, 0.5, 1.0, 2.0)]
    [0.5, 0.541, 0.672, 1.009]
    >>> [round(bn_rnn_factor(gain, 0), 2) for gain in (0.1, 0.5, 1.0, 2.0)]
    [1.0, 1.03, 1.18, 1.61]
    """
    z, weight = _gaussian()
    h = np.tanh(gain * math.sqrt(2 if input_variance is None else 1) * z)
    slope = (weight * (1 - h * h) ** 2).sum()
    return float(gain**2 * slope / bn_rnn_variance(gain, input_variance))


def bn_rnn_variance(gain: float, input_variance: float | None = None) -> float:
    """The variance of what the batch norm of the state divides in `bn_rnn_factor`, E[tanh(s)^2], or that and v."""
    z, weight = _gaussian()
    h = np.tanh(gain * math.sqrt(2 if input_variance is None else 1) * z)
    return float((weight * h * h).sum() + (input_variance or 0))


def _gaussian() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points z and weights that sum to 1, with which a sum is the mean over N(0, 1)."""
    z = np.linspace(-12, 12, 24_001)  # evenly: Gauss-Hermite nodes converge slowly where the gain is large
    weight = np.exp(-z * z / 2)
    return z, weight / weight.sum()
