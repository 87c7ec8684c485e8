"""Data sets, known and unknown classes, and the sets that a network is tested on, as data."""
