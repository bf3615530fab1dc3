"""Figures: what all drawings of the report share, whatever they draw."""
