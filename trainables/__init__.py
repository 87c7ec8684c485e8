"""Training side: learners, data, metrics. Knows nothing of the driver in `platform/`."""
