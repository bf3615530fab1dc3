"""Sweeps: the cells of a grid, each done once, anywhere."""
