"""What theory says of the growth of gradients, for the configuration of an arm."""

import math

from bn_experiments.oracles import RECTIFIED_VARIANCE, Config, bn_gradient_factor
from bn_experiments.premises import (
    BN,
    LN,
    RMS,
    batch_size,
    gain,
    input_scale,
    mlp,
    needs,
    norm_is,
    outside,
    small_eps,
    weight_variance,
)

EPS = 0.01  # of the variance: the logarithm of the factor is off by about as much


def gradient_growth(config: Config) -> float:
    """The natural logarithm of the factor by which a layer raises the squared gradient, at initialization.

    With batch norm before the activation it is that of `bn_gradient_factor`, whatever the weights' variance and the
    norm's scale, which the next norm takes out. With layer norm or its like it is 0. Without a norm each layer
    multiplies the squared gradient by the weights' variance times their number, and by the share of units that are on,
    1 / 2 of a relu: 2 / 2 from He's initialization, and 1 / 6 from torch's.

    For the probe `gradient_growth` of a fully connected network of one width, on independent Gaussian inputs.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    mlp(config)
    kind, weights = norm_is(config, BN, LN, RMS, None), weight_variance(config)
    activation = needs(config, "model.activation", "relu", "identity", theory="whose slope is known")
    if len(set(config["model"]["hidden"])) > 1:
        raise outside("model.hidden", config["model"]["hidden"], "one width, for the theory is of layers of one width")
    on = 1.0 if activation == "identity" else 0.5
    if kind is None:
        return math.log(weights * on)
    spread = 1.0 if activation == "identity" else RECTIFIED_VARIANCE
    small_eps(config, weights * min(input_scale(config) ** -2, spread * gain(config) ** 2), EPS)
    if kind != BN:
        return 0.0
    return math.log(bn_gradient_factor(batch_size(config, "gradient_growth", least=4), activation))
