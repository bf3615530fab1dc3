"""Training: R replicas of one network, trained at once."""
