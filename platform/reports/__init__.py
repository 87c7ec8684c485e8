"""Tables of tracked runs beside published numbers: read, compared, and shown in several forms."""
