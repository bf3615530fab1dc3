"""Claims: what is claimed of the arms, and whether it holds."""
