"""What theory says of the gradient through time, for the configuration of an arm."""

import math

from bn_experiments import premises
from bn_experiments.oracles import Config, bn_rnn_factor, bn_rnn_variance
from bn_experiments.premises import BN, RNN, needs, norm_is, outside, small_eps

EPS = 0.01  # of the variance: the logarithm of the factor is off by about as much


def rate(config: Config) -> float:
    """The natural logarithm of the factor by which a time step multiplies the squared gradient (see `bn_rnn_factor`).

    For the probe `through_time` of the tanh RNN at initialization, with batch norm on each of its terms or on their
    sum, a random orthogonal W_h, and examples from N(0, 1) of many channels. The weights of the inputs come from
    U(-1/sqrt(H), 1/sqrt(H)), so that the variance of their term is C / (3 H) with C channels and H units, over the
    square of what the data are divided by.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    needs(config, "model._target_", RNN, theory="whose step the theory is of")
    premises.gaussian(config)
    norm_is(config, BN)
    needs(config, "init", "torch", theory="with which W_h starts as model.recurrent_init says")
    needs(config, "model.recurrent_init", "orthogonal", theory="for a random orthogonal W_h")
    model, shape, gain = config["model"], config["data"]["shape"], premises.gain(config)
    if len(shape) != 2:
        raise outside("data.shape", shape, "channels and time steps, for the theory is of independent steps")
    inputs = shape[0] / (3 * model["hidden"]) / premises.input_scale(config) ** 2
    state = bn_rnn_variance(gain, None if model["norms"] == "terms" else inputs)
    small_eps(config, min(state, inputs) if model["norms"] == "terms" else state, EPS)
    return math.log(bn_rnn_factor(gain, inputs if model["norms"] == "sum" else None))
