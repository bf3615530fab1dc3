"""Normalization: the slot that a network offers, and the norms that torch lacks."""
