"""What theory says of moments, for the configuration of an arm."""

import math

from bn_experiments import oracles
from bn_experiments.oracles import Config
from bn_experiments.premises import (
    BN,
    MLP,
    SCALED_WS,
    batch_size,
    gain,
    gaussian,
    input_scale,
    mlp,
    needs,
    norm_is,
    number,
    small_eps,
    weight_variance,
)

EPS = 1e-3  # of the variance: the moments are off by some times as much
EPS_OF_PAIRS = 1e-5  # in batches of two and three, whose variance may be near 0; their moments are off by below 1%
EPS_OF_WEIGHTS = 5e-3  # of the weights' variance: each layer is off by as much


def fourth_moment(config: Config) -> float:
    """E z^4 behind batch norm in training mode, of Gaussian pre-activations, in the probe's batches.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    return gain(config) ** 4 * oracles.fourth_moment(_batch(config))


def rectified(config: Config) -> float:
    """E max(z, 0) behind batch norm in training mode, of Gaussian pre-activations, in the probe's batches.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    return gain(config) * oracles.rectified_mean(_batch(config))


def largest(config: Config) -> float:
    """The largest |z| that there can be behind batch norm in training mode, sqrt(B - 1), in the probe's batches.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    return gain(config) * math.sqrt(_batch(config) - 1)


def log_dropout_shift(config: Config) -> float:
    """The logarithm of `oracles.dropout_shift` for the network's dropout.

    For batch norm before the relu of a fully connected network, on Gaussian inputs. The ratio is the same for weights,
    scales and an eps of any size, which multiply all variances.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    needs(config, "model._target_", MLP, theory="whose layers the theory is of")
    gaussian(config)
    norm_is(config, BN)
    gain(config)
    weight_variance(config)
    needs(config, "model.activation", "relu", theory="for the theory is of rectified Gaussians")
    dropped = number(config, "model.dropout", most=0.99, zero=True, theory="one probability below 1 for all layers")
    return math.log(oracles.dropout_shift(1 - dropped))


def _batch(config: Config) -> int:
    """The size of the probe's batches, of a fully connected network with batch norm on Gaussian inputs."""
    mlp(config)
    norm_is(config, BN)
    batch = batch_size(config, "moments")
    small_eps(config, weight_variance(config) / input_scale(config) ** 2, EPS if batch > 3 else EPS_OF_PAIRS)
    return batch


def scaled_ws_variance(config: Config) -> dict[str, float]:
    """The variance of the pre-activations of each layer with scaled weight standardization, by its name.

    A map of N inputs with weights of mean 0 and variance gamma^2 / N makes gamma^2 (1 - 1 / N) v of a variance v: the
    mean over its inputs is taken off, and with it what a relu makes examples share. Behind a relu v is
    v (1 - 1 / pi) / 2, which gamma^2 = 2 / (1 - 1 / pi) takes back to v. The probe's variance over B examples is
    1 - 1 / B of it. Examples are N(0, 1) over the standard deviation that the data are divided by.

    Raises:
        Refusal: The theory does not cover this configuration.

    Source: Brock et al. 2021, arXiv:2101.08692; the factor 1 - 1 / N: ours.
    """
    mlp(config)
    norm_is(config, SCALED_WS)
    needs(config, "model.activation", "relu", theory="for the theory is of rectified Gaussians")
    weights, model, gamma = weight_variance(config), config["model"], number(config, "norm.gamma")
    if config["init"] == "torch":
        needs(config, "model.bias", False, theory="for random biases move the means of what is rectified")
    widths = [math.prod(config["data"]["shape"]), *list(model["hidden"]) * model["repeat"]]
    small_eps(config, weights / max(widths[:-1]), EPS_OF_WEIGHTS)
    v = (1 - 1 / batch_size(config, "moments")) / input_scale(config) ** 2 / oracles.RECTIFIED_VARIANCE
    found = {}
    for i, inputs in enumerate(widths[:-1]):
        v *= gamma**2 * oracles.RECTIFIED_VARIANCE * (1 - 1 / inputs)
        found[f"hidden.{i}.layer"] = v
    return found
