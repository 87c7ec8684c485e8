"""What differences of rows say: their intervals, the n that decides them, and when to stop."""
