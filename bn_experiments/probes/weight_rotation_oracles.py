"""What theory says of rotation, for the configuration of an arm."""

import math

from bn_experiments.oracles import Config, angle_of_adam, angle_of_sgd
from bn_experiments.premises import BN, GN, LN, RMS, needs, norm_is, number, small_eps

SGD, ADAMW = "torch.optim.SGD", "torch.optim.AdamW"
CONSTANT = "torch.optim.lr_scheduler.ConstantLR"
GROWING = "bn_experiments.training.schedules.DecayEquivalent"
EQUILIBRIUM = "for without decay there is no equilibrium"
EPS = 1e-3  # of a variance of 1, which trained layers have more or less


def angle(config: Config) -> float:
    """The angle of a step in rotational equilibrium, in radians, of SGD or of AdamW with its momentum.

    For scale-invariant weights that decay, at a constant rate: whole weights behind a norm of an example's features,
    the rows of output units behind batch norm.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    optimizer = _invariant(config)
    kind = needs(config, "optimizer._target_", SGD, ADAMW, theory="whose angles are known")
    needs(config, "scheduler._target_", CONSTANT, theory="for the theory is of a constant rate")
    own = {key: value for key, value in optimizer["groups"]["scale_invariant"].items() if value is not None}
    place = {key: f"optimizer.{'groups.scale_invariant.' * (key in own)}{key}" for key in ("lr", "weight_decay")}
    lr, decay = number(config, place["lr"]), number(config, place["weight_decay"], theory=EQUILIBRIUM)
    if kind == ADAMW:
        needs(config, "optimizer.amsgrad", False, theory="for the theory is of steps of one size")
        return angle_of_adam(lr, decay, optimizer["betas"][0])
    needs(config, "optimizer.nesterov", False, theory="for the theory is of plain momentum")
    needs(config, "optimizer.dampening", 0, theory="for the theory is of plain momentum")
    return angle_of_sgd(lr, decay, optimizer["momentum"])


def growth_of_decay(config: Config) -> float:
    """How much longer weights are at the end under growing rates than under the decay that these stand for.

    It is the natural logarithm of (1 - lr decay)^-T, after T steps (Li & Arora 2020, arXiv:1910.07454).

    Raises:
        Refusal: The theory does not cover this configuration, or it does not say how many steps an epoch has.
    """
    data, optimizer = config["data"], _invariant(config)
    needs(config, "optimizer._target_", SGD, theory="for the theory is of SGD without momentum")
    needs(config, "optimizer.momentum", 0, theory="for the theory is of SGD without momentum")
    needs(config, "scheduler._target_", GROWING, theory="whose rates grow as the theory says")
    own = optimizer["groups"]["scale_invariant"]["lr"]
    lr = optimizer["lr"] if own is None else own
    examples = number(config, "data.train_examples", theory="which says how many steps an epoch has")
    size = number(config, "data.batch_size", theory="which says how many steps an epoch has")
    needs(config, "data.drop_last", False, theory="for the steps are counted with the last one of an epoch")
    held_out = 0 if data["val_split"] == "test" else round(examples * data["val_fraction"])
    steps = math.ceil((examples - held_out) / size)
    return -config["trainer"]["max_epochs"] * steps * math.log1p(-lr * config["scheduler"]["weight_decay"])


def _invariant(config: Config) -> Config:
    """The optimizer of an arm whose weights stand before a norm that divides by their scale."""
    norm_is(config, BN, LN, RMS, GN)
    needs(config, "norm.layers", "all", theory="for a norm behind every layer")
    small_eps(config, 1.0, EPS)
    return config["optimizer"]
