"""Clones made, used and ended for a long time, and processes killed meanwhile: ``make soak``."""
