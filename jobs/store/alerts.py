"""Alerts of training runs: what a person should know before the run has ended."""

from sqlalchemy import delete, select

from jobs.store.database import Database
from jobs.store.lookup import get_run_record, require_lease
from jobs.store.models import RunAlert
from jobs.store.rows import AlertRow, copy_row


class AlertRecords(Database):
    """Adds, forgets and lists alerts."""

    def add_alert(self, run_id: str, *, kind: str, step: int, message: str, token: str) -> None:
        """Record an alert; one of the same kind and step is replaced.

        Args:
            run_id: The run.
            kind: What it is about, a word.
            step: Optimizer step at which it came up.
            message: Sentences for people.
            token: Lease of the job that trains the run.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        same = (RunAlert.run_id == run_id, RunAlert.kind == kind, RunAlert.step == step)
        with self.write() as session:
            require_lease(session, run_id, token)
            session.execute(delete(RunAlert).where(*same))
            session.add(
                RunAlert(run_id=run_id, at=self.now(), kind=kind, step=step, message=message)
            )

    def forget_alerts_after(self, run_id: str, step: int, token: str) -> None:
        """Remove alerts of steps that will be taken again.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            require_lease(session, run_id, token)
            session.execute(delete(RunAlert).where(RunAlert.run_id == run_id, RunAlert.step > step))

    def list_alerts(self, run_id: str) -> list[AlertRow]:
        """Return the alerts of a run, oldest first.

        Raises:
            NotFoundError: There is no such run.
        """
        query = select(RunAlert).where(RunAlert.run_id == run_id).order_by(RunAlert.number)
        with self.read() as session:
            get_run_record(session, run_id)
            return [copy_row(AlertRow, row) for row in session.scalars(query)]
