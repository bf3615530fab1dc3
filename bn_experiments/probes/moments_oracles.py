"""What theory says of moments, for the configuration of an arm."""

import math

from bn_experiments import oracles
from bn_experiments.oracles import Config


def fourth_moment(config: Config) -> float:
    """E z^4 behind batch norm in training mode, of Gaussian pre-activations, in the probe's batches."""
    return oracles.fourth_moment(config["probes"]["moments"]["batch_size"])


def rectified(config: Config) -> float:
    """E max(z, 0) behind batch norm in training mode, of Gaussian pre-activations, in the probe's batches."""
    return oracles.rectified_mean(config["probes"]["moments"]["batch_size"])


def largest(config: Config) -> float:
    """The largest |z| that there can be behind batch norm in training mode, sqrt(B - 1), in the probe's batches."""
    return math.sqrt(config["probes"]["moments"]["batch_size"] - 1)


def log_dropout_shift(config: Config) -> float:
    """The logarithm of `oracles.dropout_shift` for the network's dropout."""
    return math.log(oracles.dropout_shift(1 - config["model"]["dropout"]))


def scaled_ws_variance(config: Config) -> dict[str, float]:
    """The variance of the pre-activations of each layer with scaled weight standardization, by its name.

    A map of N inputs with weights of mean 0 and variance gamma^2 / N makes gamma^2 (1 - 1 / N) v of a variance v: the
    mean over its inputs is taken off, and with it what a relu makes examples share. Behind a relu v is
    v (1 - 1 / pi) / 2, which gamma^2 = 2 / (1 - 1 / pi) takes back to v. The probe's variance over B examples is
    1 - 1 / B of it. Examples are N(0, 1) over the standard deviation that the data are divided by.

    Source: Brock et al. 2021, arXiv:2101.08692; the factor 1 - 1 / N: ours.
    """
    data, model, gamma = config["data"], config["model"], float(config["norm"]["gamma"])
    widths = [math.prod(data["shape"]), *list(model["hidden"]) * model["repeat"]]
    scale = data["std"] if data["normalization"] == "given" else 1.0
    v = (1 - 1 / config["probes"]["moments"]["batch_size"]) / scale**2 / oracles.RECTIFIED_VARIANCE
    found = {}
    for i, inputs in enumerate(widths[:-1]):
        v *= gamma**2 * oracles.RECTIFIED_VARIANCE * (1 - 1 / inputs)
        found[f"hidden.{i}.layer"] = v
    return found
