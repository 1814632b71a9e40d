"""Claims jobs until there are none, and prints their ids: ``claim_all.py URL WORKER``."""

import sys

from jobs.store.store import Store

if __name__ == "__main__":
    _, url, worker = sys.argv
    store = Store(url)
    store.check()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    while (job := store.claim(worker)) is not None:
        sys.stdout.write(f"{job.id}\n")
    store.close()
