"""The shape of a sweep's file, and every mistake that it may have."""
