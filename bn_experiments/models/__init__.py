"""Networks: plain modules with a slot for the norm, which map a batch of examples to logits."""
