"""The RETRO network."""
