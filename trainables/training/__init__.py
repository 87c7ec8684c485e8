"""The loop that all methods share, and what it needs: schedules, checkpoints, teachers."""
