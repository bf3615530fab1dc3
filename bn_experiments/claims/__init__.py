"""Claims: statements about the arms of an experiment, and the verdicts on them."""
