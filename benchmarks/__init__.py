"""What the engine's speed is measured with; nothing here is needed to use it."""
