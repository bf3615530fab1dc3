"""Example-weighted evaluation in words: the names that the report gives to the probe's quantities."""

QUANTITIES = {
    "example_weighted/acc": "accuracy by example-weighted statistics",
    "example_weighted/loss": "loss by example-weighted statistics",
    "example_weighted/weight": "weight of the example in batch norm's statistics",
}
