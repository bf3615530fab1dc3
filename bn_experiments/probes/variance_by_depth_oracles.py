"""What theory says of the variance over residual links, for the configuration of an arm."""

from bn_experiments.models.branch import start_of
from bn_experiments.oracles import Config, norm_of, rectified_correlation, residual_moments


def residual_variance(config: Config) -> dict[str, float]:
    """The variance of a residual network's trunk by its stage, for the probe `variance_by_depth` at initialization.

    The probe takes the population variance over a batch of B, which is 1 - 1 / B of the variance. With batch norm at
    the start of a branch each link adds what a relu leaves of unit variance, 1 - J(-1 / (B - 1)) or 1 - 1 / pi = 0.68
    in large batches; with batch norm at its end each link adds 1, without a further factor. Branches that start at zero
    add nothing. With scaled weight standardization and branches that read the trunk at variance 1 (nf) a link adds
    alpha^2, if the trunk starts with variance 1. Examples are N(0, 1) over the standard deviation that the data are
    divided by; the first linear map doubles their variance.

    Raises:
        ValueError: Nothing is known of this configuration.
    """
    links, batch = config["model"]["links"], config["probes"]["variance_by_depth"]["examples"]
    share = 1 - 1 / batch
    first = 2 / config["data"]["std"] ** 2 if config["data"]["normalization"] == "given" else 2.0
    scaling, start = config["model"]["branch_scale"], config["model"]["branch_scale_start"]
    number = start_of(start, links)
    norm = norm_of(config)
    if scaling == "nf" and (norm != "scaled_weight_standardization" or abs(first - 1) > 1e-6):
        raise ValueError("links of nf are those of the theory with norm=scaled_ws and a trunk of variance 1 alone")
    if norm not in ("BatchNorm", "None", "scaled_weight_standardization") or (
        norm == "BatchNorm" and scaling != "none"
    ):
        raise ValueError(f"no variance is known for {norm} with branches scaled by {scaling}")
    if norm == "BatchNorm":
        at_start = config["model"]["norm_position"] == "branch"
        step = share * (1 - rectified_correlation(-1 / (batch - 1))) if at_start else 1.0
        variances = [first * share + step * link for link in range(links + 1)]
    elif scaling == "nf":
        variances = [share * (first + number**2 * link) for link in range(links + 1)]
    else:
        gain = {"none": 1.0, "rezero": 0.0, "fixup": 0.0}.get(scaling, number**2)
        variances = [share * variance for _, variance in residual_moments(links, gain, first)]
    return dict(zip(["input", *(f"links.{i}" for i in range(links))], variances, strict=True))
