"""Training: R replicas of one network are trained at once."""
