"""Estimates of claims: what each rule's estimate is, in words."""

ESTIMATES = {
    "difference": "mean difference",
    "equivalence": "mean difference",
    "interaction": "mean difference of differences",
    "agreement": "distance from the oracle at the least certain point",
    "slope_difference": "mean difference of slopes",
    "slope": "mean slope a point",
    "linear_over_exponential": "AIC exponential - linear",
    "exponential_over_linear": "AIC linear - exponential",
    "ordering": "difference at the least certain point",
}


def statistic(rule: str, at: int | None = None, over: str | None = None) -> str:
    """What the estimate of a verdict is, in words.

    Args:
        rule: The name of the rule.
        at: The index of the point that decides, where there is one.
        over: What slopes are taken against, where it is not the number of the point.

    >>> statistic("equivalence"), statistic("slope"), statistic("slope", over="log(model.depth)")
    ('mean difference', 'mean slope a point', 'mean slope against log(model.depth)')
    """
    if rule == "equivalence" and at is not None:  # of curves
        return "difference, less what it should be, at the least certain point"
    text = ESTIMATES.get(rule, rule)
    return f"{text.removesuffix(' a point')} against {over}" if over else text
