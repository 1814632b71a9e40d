"""The process of a job, as in production, with the tasks of ``sample_tasks``."""

import sys

from sample_tasks import TASKS

from jobs.work.child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], TASKS))
