"""Language models, and the layers that they share."""
