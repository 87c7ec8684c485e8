"""Folders that a trial keeps files in: its own machine's, or one that all nodes share."""
