"""What must hold whatever was killed. Each check returns what is wrong, as sentences."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise

from sqlalchemy import text

from bench.soak.processes import Child
from bench.soak.workload import Batch, Results, results
from jobs.home import Home
from jobs.store.rows import JobEventRow, JobRow
from jobs.store.states import TRANSITIONS, CorpusState, JobState, RunState
from jobs.store.store import Store
from jobs.store.transitions import MAX_ATTEMPTS

ALL = 10**9
LEFTOVERS = (".tmp-*", "*.partial", "*.damaged")


def check_children(alive: Sequence[Child]) -> Iterator[str]:
    """No job is worked on by two processes."""
    for job_id, number in Counter(child.job_id for child in alive).items():
        if number > 1:
            yield f"job {job_id} is worked on by {number} processes"


def check_events(job: JobRow, events: Sequence[JobEventRow]) -> Iterator[str]:
    """States follow each other as the table allows, each change is told once, none twice."""
    name = f"{job.kind} job {job.id}"
    if not events or events[0].from_state is not None or events[0].to_state is not JobState.QUEUED:
        yield f"{name} did not begin in the queue"
        return
    for before, after in pairwise(events):
        if after.from_state is not before.to_state:
            yield f"{name} went from {before.to_state} and then from {after.from_state}"
        elif after.to_state not in TRANSITIONS[before.to_state]:
            yield f"{name} went from {before.to_state} to {after.to_state}"
    if events[-1].to_state is not job.state:
        yield f"{name} is {job.state}, its last event is {events[-1].to_state}"
    if sum(event.to_state is JobState.SUCCEEDED for event in events) > 1:
        yield f"{name} succeeded more than once"
    if max(event.attempt for event in events) > MAX_ATTEMPTS:
        yield f"{name} was started more than {MAX_ATTEMPTS} times"
    if job.state.is_finished and (job.lease_token, job.pid) != (None, None):
        yield f"{name} has ended and still holds a lease or a process"


def check_jobs(store: Store, batches: Iterable[Batch], *, all_ended: bool) -> Iterator[str]:
    """No job is lost or failed; at the end, none is left."""
    jobs = store.list_jobs(limit=ALL)
    numbers = sorted(job.number for job in jobs)
    if numbers != list(range(1, len(jobs) + 1)):
        yield f"numbers of jobs are missing: {len(jobs)} jobs, the last is {numbers[-1]}"
    for listed in jobs:
        job, events = _job_with_events(store, listed)
        yield from check_events(job, events)
        if job.state is JobState.FAILED:
            yield f"{job.kind} job {job.id} failed: {job.error}"
        if all_ended and not job.state.is_finished:
            yield f"{job.kind} job {job.id} never ended, it is {job.state}"
    if all_ended:
        yield from _check_published_once(jobs, batches)


def _job_with_events(store: Store, job: JobRow) -> tuple[JobRow, list[JobEventRow]]:
    """Return a job and its events of one moment, while others go on with it."""
    while True:
        events = store.job_events(job.id)
        job = store.get_job(job.id)
        if store.job_events(job.id) == events:
            return job, events


def _check_published_once(jobs: Sequence[JobRow], batches: Iterable[Batch]) -> Iterator[str]:
    succeeded = Counter(job.run_id or job.corpus_id for job in jobs if job.state == "succeeded")
    wanted = {name for batch in batches for name in (batch.corpus_id, *batch.run_ids.values())}
    for name in sorted(wanted):
        if succeeded[name] != 1:
            yield f"{name} was published {succeeded[name]} times"


def check_batch(
    store: Store, home: Home, batch: Batch, wanted: Results, steps: int
) -> Iterator[str]:
    """A finished batch is what it would be had nothing been killed."""
    corpus = store.get_corpus(batch.corpus_id)
    if corpus.state is not CorpusState.READY:
        yield f"corpus {corpus.id} is {corpus.state}"
    for run_id in batch.run_ids.values():
        run = store.get_run(run_id)
        if (run.state, run.step) != (RunState.SUCCEEDED, steps):
            yield f"run {run_id} is {run.state} at step {run.step}"
        measured = [point.step for point in store.metrics(run_id, name="train_loss")]
        if measured != list(range(1, steps + 1)):
            yield f"run {run_id} has not every step once: {measured}"
        folder = home.run_dir(run_id) / "checkpoints"
        on_disk = sorted(path.name for path in folder.iterdir())
        rows = [f"step-{row.step:08d}" for row in store.list_checkpoints(run_id)]
        if on_disk != rows:
            yield f"run {run_id} has the checkpoints {on_disk} and the rows {rows}"
    found = results(store, home, batch, steps)
    for path in sorted(found.files.keys() ^ wanted.files.keys()):
        yield f"corpus {batch.corpus_id}: {path} is on one side only"
    for path in sorted(found.files.keys() & wanted.files.keys()):
        if found.files[path] != wanted.files[path]:
            yield f"corpus {batch.corpus_id}: {path} differs from an uninterrupted build"
    for seed, run_id in batch.run_ids.items():
        own, other = found.weights[seed], wanted.weights[seed]
        if own != other or own == "missing":
            yield f"run {run_id}: weights {own[:12]} differ from {other[:12]}, never interrupted"
        if found.losses[seed] != wanted.losses[seed]:
            yield f"run {run_id}: losses differ from those of an uninterrupted run"


def check_files(home: Home) -> Iterator[str]:
    """Nothing half-written is left."""
    for parent in (home.corpora_dir, home.runs_dir, home.backups_dir):
        for pattern in LEFTOVERS:
            for path in parent.rglob(pattern):
                yield f"left over: {path.relative_to(home.path)}"


def check_database(store: Store) -> Iterator[str]:
    """The database itself is whole."""
    if store.engine.dialect.name != "sqlite":
        return
    with store.engine.connect() as connection:
        found = connection.execute(text("PRAGMA integrity_check")).scalars().all()
        orphans = connection.execute(text("PRAGMA foreign_key_check")).all()
    if list(found) != ["ok"]:
        yield f"PRAGMA integrity_check: {found[0]}"
    if orphans:
        yield f"PRAGMA foreign_key_check: {orphans[0]}"


def check_orphans(pids: Collection[int]) -> Iterator[str]:
    """No process outlives the work."""
    if pids:
        yield f"processes are left: {sorted(pids)}"
