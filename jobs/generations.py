"""Texts that were written, chunk by chunk, with their neighbors."""

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from jobs.database import Database, new_id
from jobs.errors import InvalidChangeError, NotFoundError
from jobs.lookup import get_run_record
from jobs.models import Generation, GenerationChunk
from jobs.rows import GenerationRow, copy_row
from jobs.states import GenerationState


class GenerationRecords(Database):
    """Stores generations; they outlive their run and their corpus."""

    def create_generation(
        self, run_id: str, corpus_id: str | None, prompt: str, settings: Mapping[str, Any]
    ) -> GenerationRow:
        """Record a generation that begins now.

        Raises:
            NotFoundError: There is no such run.
        """
        with self.write() as session:
            run = get_run_record(session, run_id)
            generation = Generation(
                id=new_id(),
                run_id=run_id,
                run_name=run.name,
                corpus_id=corpus_id,
                prompt=prompt,
                settings=dict(settings),
                state=GenerationState.RUNNING.value,
                created_at=self.now(),
            )
            session.add(generation)
            session.flush()
            return copy_row(GenerationRow, generation, chunks={})

    def append_chunk(
        self, generation_id: str, chunk: Mapping[str, Any], variant: Literal["on", "off"] = "on"
    ) -> None:
        """Add a finished chunk.

        Args:
            generation_id: The generation.
            chunk: The chunk with its neighbors, as JSON.
            variant: Whether it was written with retrieval on or off.

        Raises:
            NotFoundError: There is no such generation.
            InvalidChangeError: The generation has ended.
        """
        with self.write() as session:
            generation = get_generation_record(session, generation_id, lock=True)
            if generation.state != GenerationState.RUNNING:
                raise InvalidChangeError(
                    f"Only a generation that is running gets more chunks, generation "
                    f"{generation_id} is {generation.state}."
                )
            count = select(func.count()).where(
                GenerationChunk.generation_id == generation_id, GenerationChunk.variant == variant
            )
            session.add(
                GenerationChunk(
                    generation_id=generation_id,
                    variant=variant,
                    position=session.scalar(count) or 0,
                    chunk=dict(chunk),
                )
            )

    def finish_generation(
        self,
        generation_id: str,
        state: str,
        message: str = "",
        result: Mapping[str, Any] | None = None,
    ) -> GenerationRow:
        """End a generation; one that has ended already is left as it is.

        Args:
            generation_id: The generation.
            state: ``succeeded``, ``failed`` or ``canceled``.
            message: What to tell about it.
            result: The whole text with its chunks, as JSON.

        Raises:
            NotFoundError: There is no such generation.
        """
        with self.write() as session:
            generation = get_generation_record(session, generation_id, lock=True)
            if generation.state == GenerationState.RUNNING:
                generation.state = GenerationState(state).value
                generation.message = message
                generation.result = None if result is None else dict(result)
                generation.finished_at = self.now()
        return self.get_generation(generation_id)

    def get_generation(self, generation_id: str) -> GenerationRow:
        """Return one generation with its chunks.

        Raises:
            NotFoundError: There is no such generation.
        """
        query = (
            select(GenerationChunk)
            .where(GenerationChunk.generation_id == generation_id)
            .order_by(GenerationChunk.variant.desc(), GenerationChunk.position)
        )
        with self.read() as session:
            generation = get_generation_record(session, generation_id)
            chunks: dict[str, list[dict[str, Any]]] = {}
            for row in session.scalars(query):
                chunks.setdefault(row.variant, []).append(row.chunk)
            return copy_row(GenerationRow, generation, chunks=chunks)

    def list_generations(self, limit: int = 50, run_id: str | None = None) -> list[GenerationRow]:
        """Return generations without their chunks, newest first.

        Args:
            limit: At most this many rows.
            run_id: Only those of this run; None is all.
        """
        query = (
            select(Generation).order_by(Generation.created_at.desc(), Generation.id).limit(limit)
        )
        if run_id is not None:
            query = query.where(Generation.run_id == run_id)
        with self.read() as session:
            return [copy_row(GenerationRow, row, chunks={}) for row in session.scalars(query)]

    def request_stop(self, generation_id: str) -> GenerationRow:
        """Ask a generation to stop; one that has ended is left as it is.

        Raises:
            NotFoundError: There is no such generation.
        """
        with self.write() as session:
            get_generation_record(session, generation_id, lock=True).stop_requested = True
        return self.get_generation(generation_id)

    def interrupt_generations(self) -> int:
        """End the generations that a web process left unfinished; call it when one starts.

        Returns:
            How many there were.
        """
        end = (
            update(Generation)
            .where(Generation.state == GenerationState.RUNNING)
            .values(
                state=GenerationState.INTERRUPTED.value,
                message="The app was restarted while this text was being written.",
                finished_at=self.now(),
            )
            .returning(Generation.id)
        )
        with self.write() as session:
            return len(session.scalars(end).all())


def get_generation_record(
    session: Session, generation_id: str, *, lock: bool = False
) -> Generation:
    """Return a generation's row, or raise ``NotFoundError``."""
    generation = session.get(Generation, generation_id, with_for_update=lock or None)
    if generation is None:
        raise NotFoundError(f"There is no generation {generation_id}.")
    return generation
