"""What theory says of the errors of running statistics, for the configuration of an arm whose weights are frozen."""

from bn_experiments.oracles import Config, running_mean_error, running_variance_error
from bn_experiments.premises import BN, mlp, needs, norm_is, number, outside, value_at

FROZEN = 1e-6  # the largest rate with which weights count as frozen: a thousand steps of Adam move them by 0.001


def mean_error(config: Config) -> float:
    """The mean squared error of the running mean, in units of the variance.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    return running_mean_error(*_averaged(config))


def var_error(config: Config) -> float:
    """The mean squared relative error of the running variance, of Gaussian numbers.

    Raises:
        Refusal: The theory does not cover this configuration.
    """
    return running_variance_error(*_averaged(config))


def _averaged(config: Config) -> tuple[int, float]:
    """The batch size and the momentum of a network whose weights are frozen, on independent batches of Gaussians."""
    mlp(config)
    norm_is(config, BN)
    needs(config, "data.shuffle", True, theory="for batches that are independent of each other")
    for key in ("optimizer.lr", *(f"optimizer.groups.{group}.lr" for group in config["optimizer"]["groups"])):
        if value_at(config, key) is not None:
            number(config, key, most=FROZEN, zero=True, theory="for the theory is of weights that stay as they are")
    size = value_at(config, "data.batch_size")
    if not isinstance(size, int) or size < 2:
        raise outside("data.batch_size", size, "a number from 2 on, on which the theory's number depends")
    return size, number(config, "norm.momentum", most=1.0, theory="for an exponential average")
