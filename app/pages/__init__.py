"""One module per page; each has ``build(services, demo)``."""
