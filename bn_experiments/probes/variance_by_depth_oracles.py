"""What theory says of the variance over residual links, for the configuration of an arm."""

import math

from bn_experiments import premises
from bn_experiments.models.branch import start_of
from bn_experiments.oracles import RECTIFIED_VARIANCE, Config, rectified_correlation, residual_moments
from bn_experiments.premises import (
    BN,
    RESIDUAL_MLP,
    SCALED_WS,
    needs,
    norm_is,
    number,
    outside,
    small_eps,
    weight_variance,
)

EPS = 0.01  # of the variance: each link is off by as much
ZERO = ("rezero", "fixup")  # branches that start at zero, whatever norm they have


def residual_variance(config: Config) -> dict[str, float]:
    """The variance of a residual network's trunk by its stage, for the probe `variance_by_depth` at initialization.

    The probe takes the population variance over a batch of B, which is 1 - 1 / B of the variance. With batch norm at
    the start of a branch each link adds what a relu leaves of unit variance, 1 - J(-1 / (B - 1)) or 1 - 1 / pi = 0.68
    in large batches; with batch norm at its end each link adds 1, without a further factor. Branches that start at zero
    add nothing. With scaled weight standardization and branches that read the trunk at variance 1 (nf) a link adds
    alpha^2, if the trunk starts with variance 1. Examples are N(0, 1) over the standard deviation that the data are
    divided by; the first linear map doubles their variance.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    needs(config, "model._target_", RESIDUAL_MLP, theory="whose trunk the theory is of")
    premises.no_dropout(config)
    premises.gaussian(config)
    needs(config, "init", "he_uniform", theory="for the theory is of He's initialization")
    needs(config, "model.activation", "relu", theory="for the theory is of rectified Gaussians")
    norm, model = norm_is(config, BN, SCALED_WS, None), config["model"]
    links, scaling, start = model["links"], model["branch_scale"], model["branch_scale_start"]
    batch = premises.batch_size(config, "variance_by_depth", "examples")
    share, first = 1 - 1 / batch, 2 / premises.input_scale(config) ** 2
    if norm == BN:
        needs(config, "model.branch_scale", "none", theory="for the theory of batch norm is of whole branches")
        position = needs(config, "model.norm_position", "branch", "last", theory="the places that the theory is of")
        needs(
            config, "probes.variance_by_depth.mode", "train", theory="for the theory is of the batch's own statistics"
        )
        small_eps(config, first * RECTIFIED_VARIANCE, EPS)
        step = share * (1 - rectified_correlation(-1 / (batch - 1))) if position == "branch" else 1.0
        variances = [first * share + premises.gain(config) ** 2 * step * link for link in range(links + 1)]
    elif scaling == "nf":
        needs(config, "norm._target_", SCALED_WS, theory="with branches of nf")
        _preserves(config)
        if abs(first - 1) > 1e-6:
            raise outside(
                "data.std", config["data"]["std"], "sqrt(2) with data.normalization=given, for branches of nf"
            )
        variances = [share * (first + start_of(start, links) ** 2 * link) for link in range(links + 1)]
    elif norm == SCALED_WS and scaling not in ZERO:
        raise outside("model.branch_scale", scaling, "nf, rezero or fixup with scaled weight standardization")
    else:
        gain = {"none": 1.0, "rezero": 0.0, "fixup": 0.0}.get(scaling, start_of(start, links) ** 2)
        variances = [share * variance for _, variance in residual_moments(links, gain, first)]
    return dict(zip(["input", *(f"links.{i}" for i in range(links))], variances, strict=True))


def _preserves(config: Config) -> None:
    """Needs the gain of scaled weight standardization that keeps the variance through a relu, and a small eps."""
    gamma = 1 / math.sqrt(RECTIFIED_VARIANCE)
    number(config, "norm.gamma", gamma - 1e-6, gamma + 1e-6, theory="which keeps the variance through a relu")
    small_eps(config, weight_variance(config) / config["model"]["width"], EPS)
