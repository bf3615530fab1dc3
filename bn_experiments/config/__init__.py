"""The configuration: from a command to checked cells, and the objects that they describe."""
