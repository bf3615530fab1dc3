"""A norm of one's own, examined before it is believed: python -m bn_experiments.norms.examine my_package.MyNorm."""
