"""Background jobs: a table, a worker, and one process per job."""
