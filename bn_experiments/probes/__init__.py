"""Probes: what is measured of the networks beside their losses, at chosen epochs."""
