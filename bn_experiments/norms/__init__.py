"""Normalization: the slot that a network offers for a norm, and the norms that torch lacks."""
