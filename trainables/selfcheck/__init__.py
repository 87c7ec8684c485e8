"""A first run on a machine that nobody has tried: `python -m trainables.selfcheck`."""
