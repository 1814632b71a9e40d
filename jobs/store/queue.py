"""What people and pages do with jobs: submit, list, stop, repeat."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from jobs.errors import InvalidChangeError
from jobs.store.corpus_locks import check_corpus_lock
from jobs.store.database import new_id
from jobs.store.lookup import (
    active_build,
    get_corpus_record,
    get_job_record,
    get_run_record,
    refuse_if_active,
    refuse_if_hopeless,
)
from jobs.store.models import Job, JobEvent
from jobs.store.rows import JobEventRow, JobRow, copy_row
from jobs.store.states import JobState, StopIntent
from jobs.store.transitions import Transitions
from retro.errors import ConfigError

BUILD, TRAIN = "build", "train"
"""Kinds of the jobs that build a corpus and train a run; the states of both follow theirs."""
PRIORITIES = range(-1000, 1001)


class JobQueue(Transitions):
    """Submits, lists, stops and repeats jobs."""

    def submit(
        self,
        kind: str,
        *,
        corpus_id: str | None = None,
        run_id: str | None = None,
        settings: Mapping[str, Any],
        after_id: str | None = None,
        parent_id: str | None = None,
        time_limit_s: float | None = None,
        priority: int = 0,
        lock: str | None = None,
    ) -> JobRow:
        """Put a job into the queue.

        A job of a run waits for the build of the run's corpus, if that is under way.

        Args:
            kind: What to do; a task of this name must exist when the job starts.
            corpus_id: Corpus the job works on; that of the run by default.
            run_id: Run the job works for; its state follows that of its newest training.
            settings: What the task needs to know.
            after_id: Job that must succeed first.
            parent_id: Job that this one repeats or continues.
            time_limit_s: The job is stopped when it ran for longer, seconds.
            priority: A higher one starts first, within ``PRIORITIES``.
            lock: Of the corpus of a build, see ``check_corpus_lock``.

        Raises:
            NotFoundError: A corpus, run or job does not exist.
            InvalidChangeError: Something else works on the same corpus or run, or the job
                to wait for will not succeed.
            BusyError, LockLostError: Documents of the corpus are being changed.
            ConfigError: The priority is out of range.
        """
        check_priority(priority)
        with self.write() as session:
            job = self._submit(
                session,
                kind,
                corpus_id=corpus_id,
                run_id=run_id,
                settings=dict(settings),
                after_id=after_id,
                parent_id=parent_id,
                time_limit_s=time_limit_s,
                priority=priority,
                lock=lock,
            )
            return copy_row(JobRow, job)

    def retry_job(self, job_id: str) -> JobRow:
        """Put a new job into the queue that repeats an ended one and names it as its parent.

        Raises:
            NotFoundError: There is no such job.
            InvalidChangeError: The job has not ended, or it succeeded.
        """
        with self.write() as session:
            old = get_job_record(session, job_id)
            state = JobState(old.state)
            if not state.is_finished or state is JobState.SUCCEEDED:
                raise InvalidChangeError(
                    f"Only a job that ended without success can be repeated, job {job_id} is "
                    f"{state.value}."
                )
            return copy_row(JobRow, self.resubmit(session, old))

    def get_job(self, job_id: str) -> JobRow:
        """Return one job.

        Raises:
            NotFoundError: There is no such job.
        """
        with self.read() as session:
            return copy_row(JobRow, get_job_record(session, job_id))

    def list_jobs(
        self,
        state: str | None = None,
        limit: int = 100,
        *,
        kind: str | None = None,
        before: int | None = None,
    ) -> list[JobRow]:
        """Return jobs, newest first.

        Args:
            state: Only jobs in this state; None is all.
            limit: At most this many rows.
            kind: Only jobs of this kind; None is all.
            before: Only jobs with a lower number; None is all.
        """
        query = select(Job).order_by(Job.number.desc()).limit(limit)
        if state is not None:
            query = query.where(Job.state == state)
        if kind is not None:
            query = query.where(Job.kind == kind)
        if before is not None:
            query = query.where(Job.number < before)
        with self.read() as session:
            return [copy_row(JobRow, job) for job in session.scalars(query)]

    def count_jobs(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are of each kind and state."""
        query = select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
        with self.read() as session:
            return {(kind, state): number for kind, state, number in session.execute(query)}

    def list_queue(self) -> list[JobRow]:
        """Return the jobs that wait, in the order in which they start."""
        query = (
            select(Job)
            .where(Job.state == JobState.QUEUED)
            .order_by(Job.priority.desc(), Job.number)
        )
        with self.read() as session:
            return [copy_row(JobRow, job) for job in session.scalars(query)]

    def set_priority(self, job_id: str, priority: int) -> JobRow:
        """Let a job that waits start earlier or later.

        Raises:
            NotFoundError: There is no such job.
            InvalidChangeError: It does not wait.
            ConfigError: The priority is out of range.
        """
        check_priority(priority)
        with self.write() as session:
            job = _waiting_job(session, job_id)
            job.priority = priority
            session.flush()
            return copy_row(JobRow, job)

    def run_next(self, job_id: str) -> JobRow:
        """Put a job that waits before all others that wait.

        Raises:
            NotFoundError: There is no such job.
            InvalidChangeError: It does not wait.
            ConfigError: The others have the highest priority there is.
        """
        highest = select(func.max(Job.priority)).where(
            Job.state == JobState.QUEUED, Job.id != job_id
        )
        with self.write() as session:
            job = _waiting_job(session, job_id)
            above = session.scalar(highest)
            if above is not None and above >= job.priority:
                check_priority(above + 1)
                job.priority = above + 1
                session.flush()
            return copy_row(JobRow, job)

    def job_events(self, job_id: str) -> list[JobEventRow]:
        """Return the changes of a job's state, oldest first.

        Raises:
            NotFoundError: There is no such job.
        """
        query = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.number)
        with self.read() as session:
            get_job_record(session, job_id)
            return [copy_row(JobEventRow, event) for event in session.scalars(query)]

    def request_cancel(self, job_id: str, intent: str = "cancel") -> JobRow:
        """Ask a job to stop; one that has not started ends at once.

        Args:
            job_id: The job.
            intent: ``cancel``; ``pause`` for a run that is to go on later; ``time_limit``.

        Raises:
            NotFoundError: There is no such job.
            InvalidChangeError: The job has ended, or it cannot be paused.
        """
        wish = StopIntent(intent)
        with self.write() as session:
            job = get_job_record(session, job_id, lock=True)
            state = JobState(job.state)
            if state.is_finished:
                raise InvalidChangeError(
                    f"Only a job that has not ended can be stopped, job {job_id} is {state.value}."
                )
            if wish is StopIntent.PAUSE and (job.kind != TRAIN or job.run_id is None):
                raise InvalidChangeError(
                    f"Only training can be paused, job {job_id} is a {job.kind} job. Cancel it; "
                    f"what it has finished is kept."
                )
            if job.stop_requested_at is None:
                job.stop_requested_at = self.now()
            # A wish to stop for good wins over a wish to go on later, never the reverse.
            if job.intent is not StopIntent.CANCEL:
                job.stop_intent = wish.value
            session.flush()
            if state is JobState.QUEUED:
                word = "Paused" if wish is StopIntent.PAUSE else "Canceled"
                self.change_state(
                    session,
                    job,
                    None,
                    JobState.QUEUED,
                    JobState.CANCELED,
                    message=f"{word} before it started.",
                )
            return copy_row(JobRow, job)

    def _submit(
        self,
        session: Session,
        kind: str,
        *,
        corpus_id: str | None,
        run_id: str | None,
        settings: dict[str, Any],
        after_id: str | None,
        parent_id: str | None,
        time_limit_s: float | None,
        priority: int,
        lock: str | None = None,
    ) -> Job:
        now = self.now()
        run = get_run_record(session, run_id, lock=True) if run_id is not None else None
        if run is not None:
            corpus_id = corpus_id or run.corpus_id
        if run is not None and kind == TRAIN:
            training = and_(Job.run_id == run.id, Job.kind == TRAIN)
            refuse_if_active(session, training, f"Run {run.name!r}")
        corpus = get_corpus_record(session, corpus_id, lock=True) if corpus_id is not None else None
        if corpus is not None and kind == BUILD:
            refuse_if_active(session, Job.corpus_id == corpus.id, f"Corpus {corpus.name!r}")
            check_corpus_lock(session, corpus, lock, now)
        if corpus is not None and run is not None and after_id is None:
            after_id = active_build(session, corpus)
        if after_id is not None:
            refuse_if_hopeless(get_job_record(session, after_id, lock=True))
        if parent_id is not None:
            get_job_record(session, parent_id)

        job = Job(
            id=new_id(),
            kind=kind,
            state=JobState.QUEUED.value,
            settings=settings,
            corpus_id=corpus_id,
            run_id=run_id,
            after_id=after_id,
            parent_id=parent_id,
            time_limit_s=time_limit_s,
            priority=priority,
            created_at=now,
        )
        session.add(job)
        session.flush()
        if run is not None and kind == TRAIN:
            run.job_id = job.id
        if corpus is not None and kind == BUILD:
            corpus.build_job_id = job.id
            corpus.updated_at = now
        self.record_change(session, job, None, "")
        return job

    def resubmit(
        self, session: Session, old: Job, settings: Mapping[str, Any] | None = None
    ) -> Job:
        """Submit a job again, for which the jobs wait from now on that waited for the old one.

        Args:
            session: An open transaction.
            old: A job that has ended.
            settings: What the task needs to know, where it is not the same as before.
        """
        after_id = None
        if old.after_id is not None:
            before = get_job_record(session, old.after_id)
            if before.kind == BUILD and before.corpus_id is not None:
                newest = get_corpus_record(session, before.corpus_id).build_job_id
                before = before if newest is None else get_job_record(session, newest)
            if before.state != JobState.SUCCEEDED:
                after_id = before.id
        job = self._submit(
            session,
            old.kind,
            corpus_id=old.corpus_id,
            run_id=old.run_id,
            settings=dict(old.settings if settings is None else settings),
            after_id=after_id,
            parent_id=old.id,
            time_limit_s=old.time_limit_s,
            priority=old.priority,
        )
        follow = update(Job).where(Job.after_id == old.id, Job.state == JobState.QUEUED)
        session.execute(follow.values(after_id=job.id))
        return job


def _waiting_job(session: Session, job_id: str) -> Job:
    job = get_job_record(session, job_id, lock=True)
    if job.state != JobState.QUEUED:
        raise InvalidChangeError(
            f"Only a job that waits has a place in the queue, job {job_id} is {job.state}."
        )
    return job


def check_priority(priority: int) -> None:
    """Refuse a priority that is out of range.

    Raises:
        ConfigError: It is not within ``PRIORITIES``.
    """
    if priority not in PRIORITIES:
        raise ConfigError(
            f"priority must be between {PRIORITIES[0]} and {PRIORITIES[-1]}, got {priority}. "
            f"0 is the usual one, and a higher one starts first."
        )
