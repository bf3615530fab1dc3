"""What theory says of rotation, for the configuration of an arm."""

import math

from bn_experiments.oracles import Config, angle_of_adam, angle_of_sgd


def angle(config: Config) -> float:
    """The angle of a step in rotational equilibrium, in radians, of SGD or of AdamW with its momentum.

    For scale-invariant weights that decay, at a constant rate: whole weights behind a norm of an example's features,
    the rows of output units behind batch norm.

    Raises:
        ValueError: It is another optimizer.
    """
    optimizer = config["optimizer"]
    lr, decay = optimizer["lr"], optimizer["weight_decay"]
    if optimizer["_target_"] == "torch.optim.AdamW":
        return angle_of_adam(lr, decay, optimizer["betas"][0])
    if optimizer["_target_"] == "torch.optim.SGD" and not optimizer["nesterov"]:
        return angle_of_sgd(lr, decay, optimizer["momentum"])
    raise ValueError(f"no angle is known for {optimizer['_target_']}")


def growth_of_decay(config: Config) -> float:
    """How much longer weights are at the end under growing rates than under the decay that these stand for.

    It is the natural logarithm of (1 - lr decay)^-T, after T steps (Li & Arora 2020, arXiv:1910.07454).

    Raises:
        ValueError: The configuration does not say how many steps an epoch has.
    """
    data, optimizer = config["data"], config["optimizer"]
    own = optimizer["groups"]["scale_invariant"]["lr"]
    lr = optimizer["lr"] if own is None else own
    if data["train_examples"] is None or data["batch_size"] == "full" or data["drop_last"]:
        raise ValueError("data.train_examples, or a plain batch size, is not set, so the number of steps is not known")
    held_out = 0 if data["val_split"] == "test" else round(data["train_examples"] * data["val_fraction"])
    steps = math.ceil((data["train_examples"] - held_out) / data["batch_size"])
    return -config["trainer"]["max_epochs"] * steps * math.log1p(-lr * config["scheduler"]["weight_decay"])
