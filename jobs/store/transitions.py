"""Changes of a job's state: each is a compare-and-set with an event.

The table is the queue. A job is claimed with one statement; from then on every write
about it carries the token of its lease, so a process that lost the lease changes
nothing.
"""

from typing import Any

from sqlalchemy import ScalarSelect, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from jobs.errors import InvalidChangeError
from jobs.store.database import Database, new_id
from jobs.store.lookup import changed_rows, get_job_record, is_hopeless
from jobs.store.models import Corpus, Job, JobEvent, Run
from jobs.store.rows import JobRow, copy_row
from jobs.store.states import ACTIVE_STATES, TRANSITIONS, JobState, run_state_after

LEASE_S = 60.0
"""How long a lease holds without being renewed, seconds."""
MAX_ATTEMPTS = 3
"""How often a job is started before it is given up."""


class Transitions(Database):
    """Claims jobs and changes their states."""

    def claim(self, worker: str, slot: str = "cpu") -> JobRow | None:
        """Take the job that is next among those that can start, or None.

        A higher priority comes first, then what was submitted earlier. Choosing and marking
        are one statement, so no job is taken twice.

        Args:
            worker: Host that will run it.
            slot: Device slot of that host.

        Returns:
            The job, with the token of its lease.
        """
        now = self.now()
        take = (
            update(Job)
            .where(Job.number == _next_number(), Job.state == JobState.QUEUED)
            .values(
                state=JobState.STARTING.value,
                attempt=Job.attempt + 1,
                worker=worker,
                slot=slot,
                pid=None,
                lease_token=new_id(),
                lease_expires_at=now + LEASE_S,
                started_at=now,
                progress_at=now,
            )
            .returning(Job)
        )
        with self.write() as session:
            job = session.scalars(take).one_or_none()
            if job is None:
                return None
            self.record_change(session, job, JobState.QUEUED, "")
            return copy_row(JobRow, job)

    def transition(
        self,
        job_id: str,
        token: str | None,
        from_state: JobState,
        to_state: JobState,
        *,
        message: str | None = None,
        error: str | None = None,
        pid: int | None = None,
        counts: bool = True,
    ) -> JobRow:
        """Change a job's state if it is in the state, and under the lease, the caller believes.

        The run of the job follows, and jobs that wait for it are canceled if it can no
        longer succeed.

        Args:
            job_id: The job.
            token: Its lease; None for a job that nobody holds.
            from_state: State it must be in.
            to_state: State it gets.
            message: What people read about it; None leaves what is there.
            error: Why it ended without success.
            pid: Process that runs it from now on.
            counts: False takes the attempt back, for a job that was stopped in good order.

        Raises:
            NotFoundError: There is no such job.
            InvalidChangeError: The change is not allowed, or the job has changed meanwhile.
        """
        with self.write() as session:
            job = get_job_record(session, job_id, lock=True)
            self.change_state(
                session,
                job,
                token,
                from_state,
                to_state,
                message=message,
                error=error,
                pid=pid,
                counts=counts,
            )
            return copy_row(JobRow, job)

    def give_up(self, job: JobRow, reason: str) -> JobRow:
        """End, or put back into the queue, a job whose process is gone.

        A job that was asked to stop ends. Any other goes back to the queue until it has
        been started too often.

        Args:
            job: The job as last read; nothing is done if it has changed since.
            reason: What became of the process, a full sentence.

        Raises:
            InvalidChangeError: The job has changed meanwhile.
        """
        with self.write() as session:
            record = get_job_record(session, job.id, lock=True)
            held = JobState(job.state)
            if record.intent is not None:
                self.change_state(
                    session,
                    record,
                    job.lease_token,
                    held,
                    record.intent.job_state,
                    message=f"{reason} It had been asked to stop; finished work is kept.",
                )
            else:
                self.change_state(
                    session, record, job.lease_token, held, JobState.INTERRUPTED, message=reason
                )
                self._requeue(session, record, reason)
            return copy_row(JobRow, record)

    def requeue_interrupted(self) -> None:
        """Put jobs that were stopped in good order back into the queue."""
        query = select(Job).where(Job.state == JobState.INTERRUPTED).with_for_update()
        with self.write() as session:
            for job in session.scalars(query).all():
                self._requeue(session, job, job.message)

    def _requeue(self, session: Session, job: Job, reason: str) -> None:
        if job.attempt >= MAX_ATTEMPTS:
            error = (
                f"The job was started {job.attempt} times and its process ended each time before "
                f"the work was done. {reason} Its log has the details; repeat the job when the "
                f"cause is gone."
            )
            self.change_state(
                session, job, None, JobState.INTERRUPTED, JobState.DEAD, message=reason, error=error
            )
            return
        self.change_state(session, job, None, JobState.INTERRUPTED, JobState.QUEUED)
        if job.intent is not None:
            self.change_state(
                session, job, None, JobState.QUEUED, JobState.CANCELED, message="Canceled."
            )

    def change_state(
        self,
        session: Session,
        job: Job,
        token: str | None,
        from_state: JobState,
        to_state: JobState,
        *,
        message: str | None = None,
        error: str | None = None,
        pid: int | None = None,
        counts: bool = True,
    ) -> None:
        """Do what ``transition`` describes, inside a transaction that is open already."""
        # Only a claim makes a lease, so only a claim leads to STARTING.
        if to_state is JobState.STARTING or to_state not in TRANSITIONS[from_state]:
            raise InvalidChangeError(
                f"A job that is {from_state.value} cannot become {to_state.value}, job {job.id} "
                f"was to."
            )
        now = self.now()
        values: dict[str, Any] = {"state": to_state.value}
        if message is not None:
            values["message"] = message
        if error is not None:
            values["error"] = error
        if pid is not None:
            values["pid"] = pid
        if not to_state.is_held:
            values |= {"lease_token": None, "lease_expires_at": None, "pid": None}
        if to_state.is_finished:
            # Where it ran stays known: that is what its speed is worth.
            values["finished_at"] = now
        elif not to_state.is_held:
            values["slot"] = None
        if not counts:
            values["attempt"] = Job.attempt - 1
        # "IS NOT DISTINCT FROM": None must match a row without a token.
        change = (
            update(Job)
            .where(
                Job.id == job.id,
                Job.state == from_state.value,
                Job.lease_token.is_not_distinct_from(token),
            )
            .values(values)
            .execution_options(synchronize_session=False)
        )
        if changed_rows(session, change) != 1:
            session.refresh(job)
            raise InvalidChangeError(
                f"Job {job.id} must be {from_state.value}, and held by who changes it, to become "
                f"{to_state.value}; it is {job.state}, attempt {job.attempt}."
            )
        session.refresh(job)
        self.record_change(session, job, from_state, error or message or "")

    def record_change(
        self, session: Session, job: Job, from_state: JobState | None, message: str
    ) -> None:
        """Write the event of a change, and let run and waiting jobs follow it."""
        now, state = self.now(), JobState(job.state)
        session.add(
            JobEvent(
                job_id=job.id,
                at=now,
                from_state=None if from_state is None else from_state.value,
                to_state=state.value,
                attempt=job.attempt,
                message=message,
            )
        )
        if job.run_id is not None:
            follow: dict[str, Any] = {
                "state": run_state_after(state, job.intent).value,
                "updated_at": now,
                "message": message,
            }
            session.execute(
                update(Run).where(Run.id == job.run_id, Run.job_id == job.id).values(follow)
            )
        if is_hopeless(job):
            self.cancel_waiting(session, job)

    def cancel_waiting(self, session: Session, job: Job) -> None:
        """Cancel the jobs that wait for one which will not succeed."""
        query = select(Job).where(Job.after_id == job.id, Job.state == JobState.QUEUED)
        for waiting in session.scalars(query.with_for_update()).all():
            reason = job.error or job.message
            self.change_state(
                session,
                waiting,
                None,
                JobState.QUEUED,
                JobState.CANCELED,
                message=f"Canceled, because it waited for job {job.number} ({job.kind}), which "
                f"ended without success. {reason}".strip(),
            )


def _next_number() -> ScalarSelect[int]:
    """Select the number of the job that is to be claimed next."""
    waiting, before, build = aliased(Job), aliased(Job), aliased(Job)
    may_start = or_(
        waiting.after_id.is_(None),
        exists().where(before.id == waiting.after_id, before.state == JobState.SUCCEEDED),
    )
    # A run may have been set to follow another run while its corpus was being built.
    corpus_is_built = ~exists().where(
        waiting.run_id.is_not(None),
        Corpus.id == waiting.corpus_id,
        build.id == Corpus.build_job_id,
        build.state.in_(ACTIVE_STATES),
    )
    return (
        select(waiting.number)
        .where(waiting.state == JobState.QUEUED, may_start, corpus_is_built)
        .order_by(waiting.priority.desc(), waiting.number)
        .limit(1)
        .with_for_update(skip_locked=True, of=waiting)
        .scalar_subquery()
    )
