"""Image sets, the protocols made of them, and what is done to their images in batches."""
