"""Premises: what a theory needs of a configuration, so that an oracle refuses one that it does not cover."""

import math
from typing import Any

from bn_experiments.oracles import Config
from bn_experiments.records.identity import flat, is_number
from bn_experiments.refusal import Refusal

MLP, RESIDUAL_MLP = "bn_experiments.models.mlp.MLP", "bn_experiments.models.residual_mlp.ResidualMLP"
RNN = "bn_experiments.models.rnn.RNN"
BN, LN = "torch.nn.BatchNorm{dim}d", "bn_experiments.norms.layer.LayerNorm"
RMS, GN = "bn_experiments.norms.rms.RMSNorm", "torch.nn.GroupNorm"
SCALED_WS = "bn_experiments.norms.weight.scaled_weight_standardization"
# the variance of a weight times its inputs; xavier_uniform's is that of layers with as many inputs as outputs
WEIGHTS = {"he_uniform": 2.0, "torch": 1 / 3, "xavier_uniform": 1.0}
REMEDY = "change it, or judge this arm without the oracle"


def outside(key: str, value: Any, allowed: str) -> Refusal:
    """The refusal of a value that a theory does not cover.

    >>> print(outside("model.dropout", 0.5, "0, for the theory is of all units"))
    model.dropout=0.5: theory has no number for it; allowed: 0, for the theory is of all units; change it, or judge \
this arm without the oracle
    """
    return Refusal(key, "theory has no number for it", allowed, REMEDY, value=value)


def value_at(config: Config, key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    return flat(config).get(key)


def needs(config: Config, key: str, *values: Any, theory: str) -> Any:
    """The value of a key, which must be one of those that a theory covers.

    Args:
        config: The resolved configuration of an arm.
        key: The dotted key.
        values: The values that the theory covers.
        theory: What the theory is for, as a clause behind the values.

    Raises:
        Refusal: It is another value.
    """
    found = value_at(config, key)
    if any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in values):
        return found
    raise outside(key, found, f"{' or '.join('null' if each is None else str(each) for each in values)}, {theory}")


def number(
    config: Config, key: str, above: float = 0.0, most: float = math.inf, *, zero: bool = False, theory: str = ""
) -> float:
    """The number at a key, which must lie above one bound, or be 0 where that is taken, and not above the other one.

    Raises:
        Refusal: It is no such number.
    """
    found = value_at(config, key)
    if is_number(found) and math.isfinite(found) and (above < found <= most or (zero and found == 0)):
        return found
    lower = "a number from 0 on" if zero else f"a number above {above:g}"
    upper = "" if most == math.inf else f", at most {most:.3g}"
    raise outside(key, found, f"{lower}{upper}{', ' * bool(theory)}{theory}")


def mlp(config: Config) -> None:
    """Needs the fully connected network without dropout, and independent Gaussian numbers as data."""
    needs(config, "model._target_", MLP, theory="whose layers the theory is of")
    no_dropout(config)
    gaussian(config)


def no_dropout(config: Config) -> None:
    """Needs a network whose units are never dropped."""
    found = value_at(config, "model.dropout")
    if any(found) if isinstance(found, list) else found:
        raise outside("model.dropout", found, "0, for units that dropout zeroes have other moments")


def gaussian(config: Config) -> None:
    """Needs independent draws from N(0, 1), or their multiples, as data."""
    path = "bn_experiments.data.sources.gaussian"
    needs(config, "data._target_", path, theory="for the theory is of independent Gaussian inputs")
    if config["data"]["normalization"] == "given":
        needs(config, "data.mean", 0, theory="for inputs of mean 0")


def input_scale(config: Config) -> float:
    """What Gaussian data are divided by."""
    return number(config, "data.std") if config["data"]["normalization"] == "given" else 1.0


def batch_size(config: Config, probe: str, option: str = "batch_size", least: int = 2) -> int:
    """The size of a probe's batch, which the theory's number depends on.

    Raises:
        Refusal: It is `full`, too small, or more than the training split of generated data has.
    """
    key, data = f"probes.{probe}.{option}", config["data"]
    found = value_at(config, key)
    examples = min(data["examples"], data["train_examples"] or data["examples"])
    count = examples - (0 if data["val_split"] == "test" else round(examples * data["val_fraction"]))
    if isinstance(found, int) and least <= found <= count:
        return found
    allowed = f"a number from {least} to {count}, the size of the training split, on which the theory's number depends"
    raise outside(key, found, allowed)


def weight_variance(config: Config) -> float:
    """The variance of a weight at initialization, times the number of its layer's inputs."""
    return WEIGHTS[needs(config, "init", *WEIGHTS, theory="whose weights have a variance that is known")]


def norm_is(config: Config, *paths: str | None, placement: tuple[str, ...] = ("pre",)) -> str | None:
    """The class of the norm, which must be one of those that the theory covers, in a place that it covers."""
    found = needs(config, "norm._target_", *paths, theory="the norms that the theory is of")
    if found in (BN, LN, RMS, GN):
        needs(config, "norm.placement", *placement, theory="the places that the theory is of")
    if found is not None:
        needs(config, "norm.layers", "all", "linear", theory="for the theory is of a norm in every layer")
    return found


def gain(config: Config) -> float:
    """The start value of the norms' scales, a number above 0."""
    if value_at(config, "norm.scale_init") == "ones":
        return 1.0
    return number(config, "norm.scale_init", theory="or ones: a scale that all units share")


def small_eps(config: Config, variance: float, share: float) -> None:
    """Needs an eps of the norm that is at most some share of the variance that it is added to."""
    theory = f"which is {share:g} of the least variance that it is added to, {variance:.3g}"
    number(config, "norm.eps", most=share * variance, zero=True, theory=theory)
