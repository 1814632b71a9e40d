"""Training runs: starting, pausing, going on, and their checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs.errors import InvalidChangeError
from jobs.store.database import new_id
from jobs.store.lookup import (
    get_corpus_record,
    get_job_record,
    get_run_record,
    refuse_if_active,
    require_lease,
)
from jobs.store.models import Corpus, Job, Run, RunTag
from jobs.store.queue import TRAIN, JobQueue, check_priority
from jobs.store.rows import JobRow, RunRow, copy_row
from jobs.store.states import JobState, RunState, StopIntent


class RunRecords(JobQueue):
    """Creates, changes and deletes runs."""

    def create_run(
        self, name: str, corpus_id: str, settings: Mapping[str, Any], total_steps: int
    ) -> RunRow:
        """Record a new run, which a job that is submitted later is to train.

        Raises:
            NotFoundError: There is no such corpus.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            run = self._add_run(session, name, corpus_id, settings, total_steps, None)
            return copy_row(RunRow, run, corpus_name=corpus.name, tags=())

    def start_run(
        self,
        name: str,
        corpus_id: str,
        settings: Mapping[str, Any],
        total_steps: int,
        *,
        task: Mapping[str, Any],
        parent_id: str | None = None,
        after_id: str | None = None,
        priority: int = 0,
    ) -> JobRow:
        """Record a new run and submit the job that trains it: both or neither.

        Args:
            name: For people.
            corpus_id: What it learns and retrieves from.
            settings: What was asked for, and what it amounts to.
            total_steps: Length of the run, optimizer steps.
            task: What the job needs to know.
            parent_id: Run whose settings it takes over.
            after_id: Job that must succeed first.
            priority: A higher one starts first, within ``PRIORITIES``.

        Raises:
            NotFoundError: There is no such corpus or job.
            InvalidChangeError: The job to wait for will not succeed.
            ConfigError: The priority is out of range.
        """
        check_priority(priority)
        with self.write() as session:
            get_corpus_record(session, corpus_id, lock=True)
            run = self._add_run(session, name, corpus_id, settings, total_steps, parent_id)
            job = self._submit(
                session,
                TRAIN,
                corpus_id=corpus_id,
                run_id=run.id,
                settings=dict(task),
                after_id=after_id,
                parent_id=None,
                time_limit_s=None,
                priority=priority,
            )
            return copy_row(JobRow, job)

    def _add_run(
        self,
        session: Session,
        name: str,
        corpus_id: str,
        settings: Mapping[str, Any],
        total_steps: int,
        parent_id: str | None,
    ) -> Run:
        now = self.now()
        run = Run(
            id=new_id(),
            name=name,
            corpus_id=corpus_id,
            settings=dict(settings),
            state=RunState.QUEUED.value,
            total_steps=total_steps,
            parent_id=parent_id,
            created_at=now,
            updated_at=now,
        )
        session.add(run)
        session.flush()
        return run

    def list_runs(self, tag: str | None = None) -> list[RunRow]:
        """Return runs, newest first.

        Args:
            tag: Only runs with this tag; None is all.
        """
        query = (
            select(Run, Corpus.name)
            .join(Corpus, Corpus.id == Run.corpus_id)
            .order_by(Run.created_at.desc(), Run.id)
        )
        if tag is not None:
            query = query.where(Run.id.in_(select(RunTag.run_id).where(RunTag.tag == tag)))
        tags: dict[str, list[str]] = {}
        with self.read() as session:
            for run_id, word in session.execute(select(RunTag.run_id, RunTag.tag)):
                tags.setdefault(run_id, []).append(word)
            return [
                copy_row(RunRow, run, corpus_name=name, tags=tuple(sorted(tags.get(run.id, ()))))
                for run, name in session.execute(query)
            ]

    def get_run(self, run_id: str) -> RunRow:
        """Return one run.

        Raises:
            NotFoundError: There is no such run.
        """
        with self.read() as session:
            run = get_run_record(session, run_id)
            corpus = get_corpus_record(session, run.corpus_id)
            tags = session.scalars(select(RunTag.tag).where(RunTag.run_id == run_id))
            return copy_row(RunRow, run, corpus_name=corpus.name, tags=tuple(sorted(tags)))

    def describe_run(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
    ) -> RunRow:
        """Change what a person says about a run; None leaves a thing as it is.

        Args:
            run_id: The run.
            name: For people.
            tags: All tags that it has from now on, each once.
            notes: Plain text.

        Raises:
            NotFoundError: There is no such run.
        """
        with self.write() as session:
            run = get_run_record(session, run_id, lock=True)
            run.updated_at = self.now()
            if name is not None:
                run.name = name
            if notes is not None:
                run.notes = notes
            if tags is not None:
                session.execute(delete(RunTag).where(RunTag.run_id == run_id))
                session.add_all(RunTag(run_id=run_id, tag=tag) for tag in tags)
        return self.get_run(run_id)

    def list_run_jobs(self, run_id: str) -> list[JobRow]:
        """Return all jobs that worked, or will work, on a run, the oldest first."""
        query = select(Job).where(Job.run_id == run_id).order_by(Job.number)
        with self.read() as session:
            return [copy_row(JobRow, job) for job in session.scalars(query)]

    def set_run_facts(
        self, run_id: str, token: str, *, settings: Mapping[str, Any], total_steps: int
    ) -> None:
        """Record what a run's settings turned out to be when its training began.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            require_lease(session, run_id, token)
            run = get_run_record(session, run_id)
            run.settings, run.total_steps = dict(settings), total_steps
            run.updated_at = self.now()

    def pause_run(self, run_id: str) -> RunRow:
        """Stop a run with a checkpoint, to go on later; the device is free meanwhile.

        Raises:
            NotFoundError: There is no such run.
            InvalidChangeError: No job of the run is waiting or at work.
        """
        run = self.get_run(run_id)
        if run.job_id is None or not run.state.is_active:
            raise InvalidChangeError(
                f"Only a run that is waiting or training can be paused, run {run.name!r} is "
                f"{run.state.value}."
            )
        self.request_cancel(run.job_id, StopIntent.PAUSE)
        return self.get_run(run_id)

    def stop_run(self, run_id: str) -> RunRow:
        """Stop a run with a checkpoint, for good; it can still be resumed.

        Raises:
            NotFoundError: There is no such run.
            InvalidChangeError: The run has ended.
        """
        with self.write() as session:
            run = get_run_record(session, run_id, lock=True)
            state = RunState(run.state)
            waits_for_nothing = run.job_id is None
            if state in (RunState.PAUSED, RunState.INTERRUPTED) or waits_for_nothing:
                active = (
                    run.job_id is not None
                    and not JobState(get_job_record(session, run.job_id).state).is_finished
                )
                if not active:
                    self._end_run(session, run)
                    state = RunState.CANCELED
            elif not state.is_active:
                raise InvalidChangeError(
                    f"Only a run that has not ended can be stopped, run {run.name!r} is "
                    f"{state.value}."
                )
            job_id = run.job_id
        if state is not RunState.CANCELED and job_id is not None:
            self.request_cancel(job_id, StopIntent.CANCEL)
        return self.get_run(run_id)

    def resume_run(self, run_id: str) -> JobRow:
        """Submit a job that goes on from the run's newest checkpoint.

        Raises:
            NotFoundError: There is no such run.
            InvalidChangeError: The run is at work, is finished, or was never started.
        """
        with self.write() as session:
            run = get_run_record(session, run_id, lock=True)
            job = _ended_job(session, run, "resumed")
            if run.state == RunState.SUCCEEDED:
                raise InvalidChangeError(
                    f"Run {run.name!r} has done all of its {run.total_steps} steps. Extend it to "
                    f"train further."
                )
            return copy_row(JobRow, self.resubmit(session, job))

    def extend_run(self, run_id: str, max_steps: int) -> JobRow:
        """Submit a job that goes on from the newest checkpoint to a later last step.

        Args:
            run_id: The run.
            max_steps: Its new length, optimizer steps.

        Raises:
            NotFoundError: There is no such run.
            InvalidChangeError: The run is at work or was never started, or has done as many
                steps already.
        """
        with self.write() as session:
            run = get_run_record(session, run_id, lock=True)
            job = _ended_job(session, run, "extended")
            if max_steps <= run.step or max_steps <= 0:
                raise InvalidChangeError(
                    f"max_steps must be above the {run.step:,} steps that run {run.name!r} has "
                    f"done, got {max_steps:,}."
                )
            run.total_steps = max_steps
            settings = {**job.settings, "max_steps": max_steps}
            return copy_row(JobRow, self.resubmit(session, job, settings))

    def delete_run(self, run_id: str) -> None:
        """Delete a run with its metrics and checkpoint rows; its files are the caller's.

        Raises:
            NotFoundError: There is no such run.
            InvalidChangeError: A job works on it.
        """
        with self.write() as session:
            run = get_run_record(session, run_id, lock=True)
            refuse_if_active(session, Job.run_id == run_id, f"Run {run.name!r}")
            self._end_run(session, run)
            session.delete(run)

    def _end_run(self, session: Session, run: Run) -> None:
        """Let a run that is not at work never go on, and nothing wait for it."""
        run.state, run.updated_at = RunState.CANCELED.value, self.now()
        run.message = ""
        if run.job_id is not None:
            job = get_job_record(session, run.job_id, lock=True)
            if job.state == JobState.CANCELED:
                job.stop_intent = StopIntent.CANCEL.value
                session.flush()
                self.cancel_waiting(session, job)


def _ended_job(session: Session, run: Run, word: str) -> Job:
    """Return the newest job of a run, which must have ended for the run to go on."""
    if run.job_id is None:
        raise InvalidChangeError(
            f"Only a run that was started can be {word}, run {run.name!r} has no job yet."
        )
    job = get_job_record(session, run.job_id)
    if not JobState(job.state).is_finished:
        raise InvalidChangeError(
            f"Only a run that has stopped can be {word}, job {job.id} of run {run.name!r} is "
            f"{job.state}. Wait until it has ended, or pause the run."
        )
    return job
