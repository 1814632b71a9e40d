"""The RETRO network and what belongs to it alone."""
