"""What a terminal shows while a sweep lasts."""
