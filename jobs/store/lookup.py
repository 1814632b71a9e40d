"""Rows by id, and the conditions under which a change is refused.

``lock=True`` keeps others from changing the row until the transaction ends, and reads it
anew. SQLite has one writer at a time anyway; PostgreSQL needs it wherever a change depends
on what was read. Runs and corpora are locked before jobs, never after.
"""

from typing import Any

from sqlalchemy import CursorResult, select
from sqlalchemy.orm import Session

from jobs.errors import InvalidChangeError, LeaseLost, NotFoundError
from jobs.store.models import Corpus, Job, Run
from jobs.store.states import ACTIVE_STATES, JobState, StopIntent


def get_job_record(session: Session, job_id: str, *, lock: bool = False) -> Job:
    """Return a job's row, or raise ``NotFoundError``."""
    query = select(Job).where(Job.id == job_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    job = session.scalar(query)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return job


def get_run_record(session: Session, run_id: str, *, lock: bool = False) -> Run:
    """Return a run's row, or raise ``NotFoundError``."""
    run = session.get(Run, run_id, with_for_update=lock or None)
    if run is None:
        raise NotFoundError(f"There is no run {run_id}.")
    return run


def get_corpus_record(session: Session, corpus_id: str, *, lock: bool = False) -> Corpus:
    """Return a corpus's row, or raise ``NotFoundError``."""
    corpus = session.get(Corpus, corpus_id, with_for_update=lock or None)
    if corpus is None:
        raise NotFoundError(f"There is no corpus {corpus_id}.")
    return corpus


def active_build(session: Session, corpus: Corpus) -> str | None:
    """Return the id of the build that is waiting or at work for a corpus, None if there is none."""
    if corpus.build_job_id is None:
        return None
    state = session.scalar(select(Job.state).where(Job.id == corpus.build_job_id))
    return corpus.build_job_id if state in ACTIVE_STATES else None


def refuse_if_active(session: Session, condition: Any, subject: str) -> None:
    """Raise ``InvalidChangeError`` if a job that meets the condition has not ended."""
    query = select(Job).where(condition, Job.state.in_(ACTIVE_STATES)).limit(1)
    job = session.scalar(query)
    if job is not None:
        raise InvalidChangeError(
            f"{subject} must not be in use by another job, {job.kind} job {job.id} is {job.state}. "
            f"Wait until it has ended, or stop it."
        )


def is_hopeless(job: Job) -> bool:
    """Return whether a job can no longer succeed; one that was paused goes on as another job."""
    state = JobState(job.state)
    is_paused = state is JobState.CANCELED and job.intent is StopIntent.PAUSE
    return state.is_finished and state is not JobState.SUCCEEDED and not is_paused


def refuse_if_hopeless(before: Job) -> None:
    """Raise ``InvalidChangeError`` if a job that others would wait for did not succeed."""
    if is_hopeless(before):
        raise InvalidChangeError(
            f"A job can only wait for one that may still succeed, and job {before.number} "
            f"({before.kind}) ended without success: it is {before.state}. Repeat that job first."
        )


def changed_rows(session: Session, statement: Any) -> int:
    """Execute a change and return how many rows it met."""
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


def require_one(session: Session, statement: Any, job_id: str) -> None:
    """Execute a fenced change, or raise ``LeaseLost`` if it met no row."""
    if changed_rows(session, statement) != 1:
        raise lease_lost(job_id)


def require_lease(session: Session, run_id: str, token: str) -> Job:
    """Return the job that holds the lease and works for the run, and lock its row.

    Raises:
        LeaseLost: No job of the run has this lease.
    """
    query = select(Job).where(Job.run_id == run_id, Job.lease_token == token).with_for_update()
    job = session.scalar(query)
    if job is None:
        raise lease_lost(f"of run {run_id}")
    return job


def lease_lost(job_id: str) -> LeaseLost:
    """Return the exception of a process whose lease is gone."""
    return LeaseLost(f"This process no longer holds the lease of job {job_id}.")
