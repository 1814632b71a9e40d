"""The process of a job, as in production, with the light tasks as well."""

import sys

from bench.soak.tasks import TASKS as LIGHT_TASKS
from jobs.work.child import main
from jobs.work.tasks import TASKS

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], {**TASKS, **LIGHT_TASKS}))
