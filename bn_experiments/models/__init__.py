"""Networks: plain modules that map a batch of examples to logits, with a slot for the norm."""
