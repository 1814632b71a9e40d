"""Writing text with neighbors."""
