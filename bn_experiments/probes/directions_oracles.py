"""What theory says of the directions of examples, for the configuration of an arm."""

from bn_experiments.oracles import RECTIFIED_VARIANCE, Config, bn_cosine, cosines_by_depth
from bn_experiments.premises import (
    BN,
    LN,
    batch_size,
    gain,
    input_scale,
    mlp,
    needs,
    norm_is,
    small_eps,
    value_at,
    weight_variance,
)

EPS = 0.01  # of the variance: the same for all examples, it hardly turns them


def cosine_by_layer(config: Config) -> dict[str, float]:
    """The mean cosine of two examples at each layer, by its number, for the probe `directions` at initialization.

    For a fully connected network with the relu, on independent Gaussian inputs. Weights of any variance give the same.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    mlp(config)
    needs(config, "model.activation", "relu", theory="whose recursion is known")
    norm, weights = norm_is(config, BN, LN, None, placement=("pre", "post")), weight_variance(config)
    layers = len(config["model"]["hidden"]) * config["model"]["repeat"] + 1
    if norm is None and config["init"] == "torch":
        needs(config, "model.bias", False, theory="for random biases, which all examples share, make them parallel")
    if norm is not None:
        small_eps(config, weights * RECTIFIED_VARIANCE * min(input_scale(config) ** -2, gain(config) ** 2), EPS)
    is_behind = value_at(config, "norm.placement") == "post"
    if norm == BN:
        batch = batch_size(config, "directions")
        needs(config, "probes.directions.mode", "train", theory="for the theory is of the batch's own statistics")
        found = [0.0, *[-1 / (batch - 1) if is_behind else bn_cosine(batch)] * (layers - 1)]
    elif norm == LN and is_behind:
        found = [0.0] * layers  # which `centred_correlation` leaves as they are
    else:
        found = cosines_by_depth(layers)
    return {str(i + 1): cosine for i, cosine in enumerate(found)}
