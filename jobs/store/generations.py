"""Texts that were written, chunk by chunk, with their neighbors."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from jobs.errors import InvalidChangeError, NotFoundError
from jobs.store.database import Database, new_id
from jobs.store.lookup import get_run_record
from jobs.store.models import Generation, GenerationChunk
from jobs.store.rows import GenerationRow, copy_row
from jobs.store.states import GenerationState


class GenerationRecords(Database):
    """Stores generations; they outlive their run and their corpus."""

    def create_generation(
        self,
        run_id: str,
        corpus_id: str | None,
        prompt: str,
        settings: Mapping[str, Any],
        *,
        run_name: str | None = None,
        parent_id: str | None = None,
        branch_index: int | None = None,
        chunks: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> GenerationRow:
        """Record a generation that begins now.

        Args:
            run_id: Whose model writes.
            corpus_id: What it retrieves from.
            prompt: What the text continues.
            settings: How it is written, as JSON.
            run_name: What people call the model where it is no run's; then there is no such run.
            parent_id: Generation that it branches from or continues.
            branch_index: First chunk that it does not take over.
            chunks: Variant to the chunks it takes over, which are copied.

        Raises:
            NotFoundError: There is no such run.
        """
        with self.write() as session:
            name = get_run_record(session, run_id).name if run_name is None else run_name
            generation = Generation(
                id=new_id(),
                run_id=run_id,
                run_name=name,
                corpus_id=corpus_id,
                prompt=prompt,
                settings=dict(settings),
                state=GenerationState.RUNNING.value,
                created_at=self.now(),
                parent_id=parent_id,
                branch_index=branch_index,
            )
            session.add(generation)
            session.flush()
            for variant, inherited in (chunks or {}).items():
                session.add_all(
                    GenerationChunk(
                        generation_id=generation.id,
                        variant=variant,
                        position=position,
                        chunk=dict(chunk),
                    )
                    for position, chunk in enumerate(inherited)
                )
            return copy_row(GenerationRow, generation, chunks={})

    def append_chunk(
        self,
        generation_id: str,
        chunk: Mapping[str, Any],
        variant: str = "on",
        position: int | None = None,
    ) -> None:
        """Add a finished chunk.

        Args:
            generation_id: The generation.
            chunk: The chunk with its neighbors, as JSON.
            variant: Which text of the generation it belongs to, as ``on``, ``off`` or ``on:1``.
            position: Its place in the text, from 0; what stands there is replaced. None is
                after the last one.

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
            if position is None:
                count = select(func.count()).where(
                    GenerationChunk.generation_id == generation_id,
                    GenerationChunk.variant == variant,
                )
                position = session.scalar(count) or 0
            session.merge(
                GenerationChunk(
                    generation_id=generation_id,
                    variant=variant,
                    position=position,
                    chunk=dict(chunk),
                )
            )

    def read_chunks(
        self, generation_id: str, variant: str, first: int, limit: int
    ) -> list[dict[str, Any]]:
        """Return chunks of one text of a generation, in order.

        Args:
            generation_id: The generation; an unknown one has no chunks.
            variant: Which of its texts.
            first: Position of the first one, from 0.
            limit: At most this many.
        """
        query = (
            select(GenerationChunk.chunk)
            .where(
                GenerationChunk.generation_id == generation_id,
                GenerationChunk.variant == variant,
                GenerationChunk.position >= first,
            )
            .order_by(GenerationChunk.position)
            .limit(limit)
        )
        with self.read() as session:
            return list(session.scalars(query))

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
            state: ``succeeded``, ``failed``, ``canceled`` or ``interrupted``.
            message: What people read about it.
            result: Why each of its texts ended and how long it took, as JSON.

        Returns:
            The generation without its chunks.

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
        return self.get_generation(generation_id, with_chunks=False)

    def get_generation(self, generation_id: str, *, with_chunks: bool = True) -> GenerationRow:
        """Return one generation.

        Args:
            generation_id: The generation.
            with_chunks: Whether to read its chunks, which may be many.

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
            for row in session.scalars(query) if with_chunks else ():
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

    def delete_generation(self, generation_id: str) -> None:
        """Delete a generation and its chunks; those that branched from it keep theirs.

        Raises:
            NotFoundError: There is no such generation.
            InvalidChangeError: It is being written.
        """
        with self.write() as session:
            generation = get_generation_record(session, generation_id, lock=True)
            if generation.state == GenerationState.RUNNING:
                raise InvalidChangeError(
                    f"Only a text that is finished can be deleted, generation {generation_id} is "
                    f"being written. Stop it first."
                )
            session.delete(generation)

    def request_stop(self, generation_id: str) -> GenerationRow:
        """Ask a generation to stop; one that has ended is left as it is.

        Returns:
            The generation without its chunks.

        Raises:
            NotFoundError: There is no such generation.
        """
        with self.write() as session:
            get_generation_record(session, generation_id, lock=True).stop_requested = True
        return self.get_generation(generation_id, with_chunks=False)

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
