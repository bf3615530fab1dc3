"""Data: each source gives tensors, which are split, kept on the device and handed out in seeded batches."""
