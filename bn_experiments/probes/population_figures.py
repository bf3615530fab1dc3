"""Population statistics in words: the names that the report gives to the probe's quantities."""

QUANTITIES = {
    "population/acc": "accuracy with population statistics",
    "population/loss": "loss with population statistics",
    "population/without_dropout_acc": "accuracy with population statistics without dropout",
    "population/without_dropout_loss": "loss with population statistics without dropout",
}
