"""What theory says of the variance over residual links, for the configuration of an arm."""

from bn_experiments.oracles import Config, norm_of, rectified_correlation, residual_moments


def residual_variance(config: Config) -> dict[str, float]:
    """The variance of a residual network's trunk by its stage, for the probe `variance_by_depth` at initialization.

    The probe takes the population variance over a batch of B, which is 1 - 1 / B of the variance. With batch norm at
    the start of a branch each link adds what a relu leaves of unit variance, 1 - J(-1 / (B - 1)) or 1 - 1 / pi = 0.68
    in large batches; with batch norm at its end each link adds 1, without a further factor.
    """
    links, batch = config["model"]["links"], config["probes"]["variance_by_depth"]["examples"]
    share = 1 - 1 / batch
    if norm_of(config) == "BatchNorm":
        at_start = config["model"]["norm_position"] == "branch"
        step = share * (1 - rectified_correlation(-1 / (batch - 1))) if at_start else 1.0
        variances = [2 * share + step * link for link in range(links + 1)]
    else:
        is_scaled = config["model"]["branch_scale"] == "skipinit"
        start = config["model"]["branch_scale_start"] if is_scaled else 1.0
        gain = 1 / links if start == "inverse_sqrt_branches" else float(start) ** 2
        variances = [share * variance for _, variance in residual_moments(links, gain)]
    return dict(zip(["input", *(f"links.{i}" for i in range(links))], variances, strict=True))
