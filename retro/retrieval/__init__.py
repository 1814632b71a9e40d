"""Keys, index, neighbors and the corpus that holds them."""
