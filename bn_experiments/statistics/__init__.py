"""Statistics: arrays with a replica axis in, numbers with their intervals out."""
