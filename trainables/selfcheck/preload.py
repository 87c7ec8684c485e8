"""What the processes of the self-check's sections start with, imported once: torch above all, and no GPU touched."""

from trainables.selfcheck import agreement, machine, sharing, speed, steps

__all__ = ["agreement", "machine", "sharing", "speed", "steps"]
