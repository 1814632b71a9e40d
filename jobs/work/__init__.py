"""The worker, the process of each job, and what jobs do."""
