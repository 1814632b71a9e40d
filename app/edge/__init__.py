"""What stands before every route: access, connections, limits, headers."""
