"""Image files in the layouts in which they are published, decoded or as they are."""
