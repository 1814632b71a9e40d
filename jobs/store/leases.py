"""What the process of a job may write: every statement carries the token of its lease."""

from sqlalchemy import select, update

from jobs.store.database import Database
from jobs.store.lookup import get_job_record, lease_lost, require_one
from jobs.store.models import Job
from jobs.store.rows import JobRow, copy_row
from jobs.store.states import HELD_STATES, StopIntent
from jobs.store.transitions import LEASE_S


class Leases(Database):
    """Renews leases and records the progress of running jobs."""

    def renew_lease(self, job_id: str, token: str) -> StopIntent | None:
        """Extend the lease, and return why the job is asked to stop, None if it is not.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        renew = (
            update(Job)
            .where(Job.id == job_id, Job.lease_token == token)
            .values(lease_expires_at=self.now() + LEASE_S)
        )
        with self.write() as session:
            require_one(session, renew, job_id)
            return get_job_record(session, job_id).intent

    def stop_intent(self, job_id: str, token: str) -> StopIntent | None:
        """Return why the job is asked to stop, None if it is not.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        query = select(Job.stop_intent).where(Job.id == job_id, Job.lease_token == token)
        with self.read() as session:
            found = session.execute(query).one_or_none()
        if found is None:
            raise lease_lost(job_id)
        return None if found[0] is None else StopIntent(found[0])

    def report_progress(
        self, job_id: str, token: str, *, stage: str, done: int, total: int
    ) -> None:
        """Record how far the job is.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        report = (
            update(Job)
            .where(Job.id == job_id, Job.lease_token == token)
            .values(stage=stage, done=done, total=total, progress_at=self.now())
        )
        with self.write() as session:
            require_one(session, report, job_id)

    def record_pid(self, job_id: str, token: str, pid: int) -> None:
        """Record the process that was started for a job.

        Raises:
            LeaseLost: The job has ended meanwhile.
        """
        record = update(Job).where(Job.id == job_id, Job.lease_token == token).values(pid=pid)
        with self.write() as session:
            require_one(session, record, job_id)

    def held_jobs(self) -> list[JobRow]:
        """Return the jobs some process is starting or running, oldest first."""
        query = select(Job).where(Job.state.in_(HELD_STATES)).order_by(Job.number)
        with self.read() as session:
            return [copy_row(JobRow, job) for job in session.scalars(query)]
