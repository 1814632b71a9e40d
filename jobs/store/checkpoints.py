"""Checkpoints of runs that are on disk."""

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from jobs.errors import NotFoundError
from jobs.store.database import Database
from jobs.store.lookup import changed_rows, get_run_record, require_lease
from jobs.store.models import Checkpoint
from jobs.store.rows import CheckpointEntry, CheckpointRow, copy_row


class CheckpointRecords(Database):
    """Records, lists and removes checkpoints."""

    def add_checkpoint(self, run_id: str, entry: CheckpointEntry, token: str) -> None:
        """Record a checkpoint that is on disk; the best one is the only best.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            require_lease(session, run_id, token)
            if entry.is_best:
                session.execute(
                    update(Checkpoint).where(Checkpoint.run_id == run_id).values(is_best=False)
                )
            session.merge(self._checkpoint(run_id, entry))

    def replace_checkpoints(
        self, run_id: str, entries: Sequence[CheckpointEntry], token: str
    ) -> None:
        """Make the rows of a run's checkpoints agree with what is on disk.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            require_lease(session, run_id, token)
            of_run = Checkpoint.run_id == run_id
            query = select(Checkpoint.step, Checkpoint.created_at).where(of_run)
            written_at = {row.step: row.created_at for row in session.execute(query)}
            session.execute(delete(Checkpoint).where(of_run))
            session.add_all(
                self._checkpoint(run_id, entry, written_at.get(entry.step)) for entry in entries
            )

    def remove_checkpoint(self, run_id: str, step: int, token: str) -> None:
        """Remove the row of a checkpoint whose files are gone.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            require_lease(session, run_id, token)
            session.execute(
                delete(Checkpoint).where(Checkpoint.run_id == run_id, Checkpoint.step == step)
            )

    def set_pinned(self, run_id: str, step: int, *, pinned: bool) -> None:
        """Record that a checkpoint is to be kept, or no longer; its files are the caller's.

        Raises:
            NotFoundError: There is no such checkpoint.
        """
        change = (
            update(Checkpoint)
            .where(Checkpoint.run_id == run_id, Checkpoint.step == step)
            .values(is_pinned=pinned)
        )
        with self.write() as session:
            if changed_rows(session, change) != 1:
                raise NotFoundError(f"There is no checkpoint of step {step} in run {run_id}.")

    def list_checkpoints(self, run_id: str) -> list[CheckpointRow]:
        """Return the checkpoints of a run by step.

        Raises:
            NotFoundError: There is no such run.
        """
        query = select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(Checkpoint.step)
        with self.read() as session:
            get_run_record(session, run_id)
            return [copy_row(CheckpointRow, row) for row in session.scalars(query)]

    def checkpoints_of(self, run_ids: Sequence[str]) -> dict[str, list[CheckpointRow]]:
        """Return the checkpoints of runs by step, by the id of their run; none for the others."""
        query = select(Checkpoint).where(Checkpoint.run_id.in_(run_ids)).order_by(Checkpoint.step)
        found: dict[str, list[CheckpointRow]] = {}
        with self.read() as session:
            for row in session.scalars(query):
                found.setdefault(row.run_id, []).append(copy_row(CheckpointRow, row))
        return found

    def _checkpoint(
        self, run_id: str, entry: CheckpointEntry, written_at: float | None = None
    ) -> Checkpoint:
        return Checkpoint(
            run_id=run_id,
            step=entry.step,
            val_loss_on=entry.val_loss_on,
            val_loss_off=entry.val_loss_off,
            bytes=entry.bytes,
            is_best=entry.is_best,
            is_pinned=entry.is_pinned,
            created_at=self.now() if written_at is None else written_at,
        )
