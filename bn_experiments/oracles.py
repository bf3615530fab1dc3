"""Oracles: what theory says of networks, as formulas.

What a claim names is a function of a configuration, beside the probe that measures, in `<probe>_oracles.py`.

The formulas hold for infinitely wide layers whose weights are drawn from N(0, 2 / fan_in) without biases, with examples
that are drawn from N(0, 1) in many dimensions. At a finite width they are off by about 1 / width.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Config = Mapping[str, Any]


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


def bn_rnn_factor(gain: float, *, constant_inputs: bool = False) -> float:
    """The factor by which a time step of a tanh RNN with batch norm multiplies the squared gradient, backwards.

    h = tanh(s), s = gain (BN(W_h h) + BN(W_x x)), where each BN makes the variance 1. For a wide network and a large
    batch s is N(0, 2 gain^2), or N(0, gain^2) where all examples have the same inputs. The tanh multiplies the squared
    gradient by E tanh'(s)^2, and BN by gain^2 / E tanh(s)^2, since it divides by the deviation of W_h h:

    gain^2 E[tanh'(s)^2] / E[tanh(s)^2].

    At small gains it is 1 / 2, or 1 with constant inputs: half of what BN(W_h h) passes on is the state's.

    Args:
        gain: The scale > 0 of both norms, gamma.
        constant_inputs: Whether all examples have the same inputs.

    Source: The setting is that of Cooijmans et al. 2016, arXiv:1603.09025, section 4; the formula is ours, for wide
    networks with a random orthogonal W_h.

    >>> [round(bn_rnn_factor(gain), 3) for gain in (0.1, 0.5, 1.0, 2.0)]
    [0.5, 0.541, 0.672, 1.009]
    >>> [round(bn_rnn_factor(gain, constant_inputs=True), 2) for gain in (0.1, 0.5, 1.0, 2.0)]
    [1.0, 1.03, 1.18, 1.61]
    """
    z = np.linspace(-12, 12, 24_001)  # evenly: Gauss-Hermite nodes converge slowly where the gain is large
    weight = np.exp(-z * z / 2)
    h = np.tanh(gain * math.sqrt(1 if constant_inputs else 2) * z)
    return float(gain**2 * (weight * (1 - h * h) ** 2).sum() / (weight * h * h).sum())


def norm_of(config: Config) -> str:
    """The class of the arm's norm, such as BatchNorm; None where there is none.

    >>> norm_of({"norm": {"_target_": "torch.nn.BatchNorm{dim}d"}}), norm_of({"norm": {"_target_": None}})
    ('BatchNorm', 'None')
    """
    return str(config["norm"]["_target_"]).rpartition(".")[2].replace("{dim}d", "")
