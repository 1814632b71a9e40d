"""The database: its tables, and what may be done to their rows."""
