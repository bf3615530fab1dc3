"""What theory says of the growth of gradients, for the configuration of an arm."""

import math

from bn_experiments.oracles import Config, bn_gradient_factor, norm_of


def gradient_growth(config: Config) -> float:
    """The natural logarithm of the factor by which a layer raises the squared gradient: of `bn_gradient_factor` or 1.

    For the probe `gradient_growth` of a fully connected network at initialization, with batch norm before the
    activation, or without a norm that mixes examples.
    """
    if norm_of(config) != "BatchNorm":
        return 0.0
    return math.log(
        bn_gradient_factor(config["probes"]["gradient_growth"]["batch_size"], str(config["model"]["activation"]))
    )
