"""A bench for claims about normalization layers: paired arms, stacked seeds, intervals."""
