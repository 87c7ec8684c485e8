"""Training side: settings, images, mixes, objectives, networks, scores. Knows nothing of the driver in `platform/`."""
