"""Existing networks, those of torchvision, of timm and one's own, with the norm of an arm in place of their norms."""
