"""What exists only for scripts that were written for RETRO-pytorch."""
