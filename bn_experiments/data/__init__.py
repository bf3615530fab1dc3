"""Data: sources give tensors, which are split, kept on the device and cut into seeded batches."""
