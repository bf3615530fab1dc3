"""The parts that several networks share."""
