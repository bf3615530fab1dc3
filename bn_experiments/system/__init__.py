"""System: what the program needs from its process, its files and its machine."""
