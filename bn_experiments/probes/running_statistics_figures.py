"""Errors of running statistics in words: the names that the report gives to the probe's quantities."""

QUANTITIES = {
    "running_statistics/mean_error": "squared error of the running mean, in variances",
    "running_statistics/var_error": "squared relative error of the running variance",
}
