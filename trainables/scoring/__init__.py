"""From a trained network to scores of samples, and from these to metrics."""
