"""A plan carried out: the queue, Ray, and what an interrupt keeps."""
