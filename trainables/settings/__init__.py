"""What a trial may be told, and what it is called by. Nothing here imports torch."""
