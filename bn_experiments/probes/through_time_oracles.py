"""What theory says of the gradient through time, for the configuration of an arm."""

import math

from bn_experiments.oracles import Config, bn_rnn_factor, norm_of


def rate(config: Config) -> float:
    """The natural logarithm of the factor by which a time step multiplies the squared gradient (see `bn_rnn_factor`).

    For the probe `through_time` of the tanh RNN at initialization, with batch norm in both of its terms, a random
    orthogonal W_h, and examples from N(0, 1) of many channels.
    """
    assert norm_of(config) == "BatchNorm"
    gain = config["norm"]["scale_init"]
    return math.log(bn_rnn_factor(1.0 if gain == "ones" else float(gain)))
