"""What theory says of the errors of running statistics, for the configuration of an arm whose weights are frozen."""

from bn_experiments.oracles import Config, running_mean_error, running_variance_error


def mean_error(config: Config) -> float:
    """The mean squared error of the running mean, in units of the variance."""
    return running_mean_error(config["data"]["batch_size"], config["norm"]["momentum"])


def var_error(config: Config) -> float:
    """The mean squared relative error of the running variance, of Gaussian numbers."""
    return running_variance_error(config["data"]["batch_size"], config["norm"]["momentum"])
