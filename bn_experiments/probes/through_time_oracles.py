"""What theory says of the gradient through time, for the configuration of an arm."""

import math

from bn_experiments.oracles import Config, bn_rnn_factor, norm_of


def rate(config: Config) -> float:
    """The natural logarithm of the factor by which a time step multiplies the squared gradient (see `bn_rnn_factor`).

    For the probe `through_time` of the tanh RNN at initialization, with batch norm on each of its terms or on their
    sum, a random orthogonal W_h, and examples from N(0, 1) of many channels. The weights of the inputs come from
    U(-1/sqrt(H), 1/sqrt(H)), so that the variance of their term is C / (3 H) with C channels and H units.
    """
    model, gain = config["model"], config["norm"]["scale_init"]
    assert norm_of(config) == "BatchNorm"
    assert config["init"] == "torch"
    assert model["recurrent_init"] == "orthogonal"
    variance = config["data"]["shape"][0] / (3 * model["hidden"]) if model["norms"] == "sum" else None
    return math.log(bn_rnn_factor(1.0 if gain == "ones" else float(gain), variance))
