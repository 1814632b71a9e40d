"""Texts: begin, branch, continue, follow, stop, look into, delete.

A text is written in the background, into its row. Pages and streams attach to it by its id, so
a reload or a closed browser loses nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from starlette.concurrency import run_in_threadpool

from app.errors import MissingError
from app.services.branching import Changes, Plan, plan_branch, plan_continuation
from app.services.corpora import CorpusService
from app.services.fit import (
    ModelFacts,
    check_length,
    check_prompt,
    choose_step,
)
from app.services.following import Following, Reader
from app.services.live import RETRIEVAL_MODES, LiveGeneration, variants_of
from app.services.models import Models
from app.services.orders import Order, check_retrieval, check_version, make_order
from app.services.pretrained import is_pretrained
from app.services.seats import Seats
from app.services.texts import generation_of
from app.services.views.generations import Generation, GenerationSummary
from app.services.writing import Writer
from jobs.errors import JobError, NotFoundError
from jobs.home import Home
from jobs.store.rows import GenerationRow
from jobs.store.states import GenerationState
from jobs.store.store import Store
from retro.config.checks import config_from_dict
from retro.config.sampling import SamplingConfig, defaults_of
from retro.errors import RetroError
from retro.generation.events import OutputChunk
from retro.generation.steering import steering_from_dict

MOST_WAITING = 100
ASK_LATER = "Try again in some seconds, or begin the text with a stream and read it by its id."


class GenerationService:
    """Everything about generations."""

    def __init__(self, home: Home, store: Store, corpora: CorpusService) -> None:
        self._home = home
        self._store = store
        self._corpora = corpora
        self.models = Models(home, store, corpora)
        self._writer = Writer(home, store, corpora)
        self._following = Following(store, self._writer.find)
        self._waiting = Seats(MOST_WAITING, "clients may wait for their texts", ASK_LATER)

    def recover(self) -> None:
        """Mark what a former web process left unfinished; call once at start-up."""
        self._store.interrupt_generations()

    def close(self) -> None:
        """Stop what is being written; finished chunks stay."""
        self._writer.close()
        self._following.close()

    @property
    def num_readers(self) -> int:
        """How many follow a text."""
        return self._following.num_readers

    @property
    def num_waiting(self) -> int:
        """How many wait for a text that they are to get when it has ended."""
        return self._waiting.taken

    def start(
        self,
        *,
        run_id: str,
        prompt: str,
        checkpoint_step: int | None = None,
        corpus_id: str | None = None,
        retrieval: str = "on",
        sampling: Mapping[str, Any] | None = None,
        steering: Mapping[str, Any] | None = None,
    ) -> Generation:
        """Begin to write a text; the work goes on in the background.

        Args:
            run_id: Whose model writes: a run, or the name of a pretrained model.
            prompt: What the text continues.
            checkpoint_step: Which checkpoint; None is the newest.
            corpus_id: What it retrieves from; None is the corpus it was trained on.
            retrieval: ``on``, ``off`` or ``both``, the last with one seed.
            sampling: Fields of ``SamplingConfig``; those left out, or None, are those of the
                model's kind.
            steering: What retrieval leaves out, and neighbors given by hand.

        Returns:
            The generation, still without text.

        Raises:
            InputError: The prompt is empty or does not fit into the model's window, or
                steering names what the corpus does not hold.
            ConfigError: A setting is unknown or out of range.
            ArtifactMissingError: The run has no checkpoint yet, or the corpus no index.
            ArtifactMismatchError: The model cannot read this corpus.
        """
        check_retrieval(retrieval)
        check_prompt(prompt)
        given = {name: value for name, value in (sampling or {}).items() if value is not None}
        defaults = defaults_of(self.models.starts_trained(run_id))
        config = config_from_dict(SamplingConfig, {**defaults, **given})
        steer = steering_from_dict(steering or {})
        if not is_pretrained(run_id):
            corpus_id = corpus_id or self._store.get_run(run_id).corpus_id
        model, step = self.models.chosen(run_id, corpus_id, checkpoint_step)
        check_length(prompt, model)
        order = make_order(
            self._home,
            self._corpora,
            model=model,
            step=step,
            corpus_id=corpus_id,
            prompt=prompt,
            retrieval=retrieval,
            config=config,
            steering=steer,
        )
        return self._begin(order)

    def branch(
        self,
        generation_id: str,
        *,
        chunk_index: int,
        variant: str | None = None,
        retrieval: str | None = None,
        seed: int | None = None,
        exclude_chunks: Sequence[int] = (),
        exclude_documents: Sequence[str] = (),
        neighbors: Sequence[Mapping[str, Any]] | None = None,
        **sampling: Any,
    ) -> Generation:
        """Begin a text that takes over the chunks of another one up to a chunk.

        Args:
            generation_id: The text it branches from; it may still be being written.
            chunk_index: First chunk to be written anew, or the one after the last.
            variant: Which text of the generation, as ``on``, ``off`` or ``on:1``; None is
                the first.
            retrieval: ``on`` or ``off``; None as before.
            seed: None is the seed of before if retrieval or sampling is changed, so that only
                the change shows, and otherwise the next one.
            exclude_chunks: Ids of chunks that are not retrieved, beside those excluded before.
            exclude_documents: Paths of documents that nothing is retrieved from.
            neighbors: Exactly the neighbors that the chunk at ``chunk_index`` reads.
            sampling: Other fields of ``SamplingConfig``; the rest stays as before.

        Returns:
            The new generation; it has the chunks it took over.

        Raises:
            NotFoundError: There is no such generation.
            ConfigError: A setting is unknown or out of range, or there is no such chunk.
            ChangeRefusedError: The generation has no chunks yet, or the corpus was built again.
        """
        parent = self._store.get_generation(generation_id)
        changes = Changes(
            seed=seed,
            exclude_chunks=exclude_chunks,
            exclude_documents=exclude_documents,
            neighbors=neighbors,
            retrieval=retrieval,
            sampling=sampling,
        )
        model = self.models.of(parent)
        plan = plan_branch(parent, chunk_index, variant, changes, model.chunk_size)
        return self._go_on(parent, model, plan)

    def continue_text(
        self, generation_id: str, *, max_new_tokens: int | None = None, variant: str | None = None
    ) -> Generation:
        """Begin a text that goes on after the last token of another one, with the same seed.

        Args:
            generation_id: The text; it must have ended.
            max_new_tokens: How many tokens to add at most; None as many as before.
            variant: Which text of the generation; None is the first.

        Returns:
            The new generation; it has all chunks of the other one.

        Raises:
            NotFoundError: There is no such generation.
            ConfigError: The length is out of range.
            ChangeRefusedError: It is still being written, or came to its own end.
        """
        parent = self._store.get_generation(generation_id)
        model = self.models.of(parent)
        plan = plan_continuation(parent, variant, max_new_tokens, model.chunk_size)
        return self._go_on(parent, model, plan)

    def _go_on(self, parent: GenerationRow, model: ModelFacts, plan: Plan) -> Generation:
        step = choose_step(
            self._home, model.run_id, model.run_name, parent.settings.get("checkpoint_step")
        )
        try:
            order = make_order(
                self._home,
                self._corpora,
                model=model,
                step=step,
                corpus_id=parent.corpus_id,
                prompt=parent.prompt,
                retrieval=plan.mode,
                config=plan.config,
                steering=plan.steering,
            )
        except NotFoundError:
            raise MissingError(
                "The corpus that this text was written from was deleted. Branch with retrieval "
                "off, or write a new text with another corpus."
            ) from None
        check_version(parent, order)
        return self._begin(order, parent, plan)

    def _begin(
        self, order: Order, parent: GenerationRow | None = None, plan: Plan | None = None
    ) -> Generation:
        settings = order.settings()
        variants = variants_of(settings)
        inherited = plan.inherited if plan else []
        row = self._store.create_generation(
            order.model.run_id,
            order.corpus_id,
            order.prompt,
            settings,
            run_name=order.model.run_name if order.model.is_pretrained else None,
            parent_id=parent.id if parent else None,
            branch_index=plan.branch_index if plan else None,
            chunks={variant: inherited for variant in variants if inherited},
        )
        self._writer.submit(
            LiveGeneration(
                id=row.id,
                run_id=order.model.run_id,
                run_name=order.model.run_name,
                corpus_id=order.corpus_id,
                corpus_name=order.corpus_name,
                step=order.step,
                chunk_size=order.model.chunk_size,
                prompt=order.prompt,
                config=order.config,
                steering=order.steering,
                modes=RETRIEVAL_MODES[order.retrieval],
                finished=dict.fromkeys(variants, plan.branch_index if plan else 0),
            )
        )
        return self.get(row.id)

    def get(self, generation_id: str) -> Generation:
        """Return a generation as it stands."""
        return generation_of(self._store.get_generation(generation_id))

    def summary(self, generation_id: str) -> GenerationSummary:
        """Return a generation without its chunks, which may be many."""
        return GenerationSummary.of(self._store.get_generation(generation_id, with_chunks=False))

    def list_generations(
        self, limit: int = 30, run_id: str | None = None
    ) -> list[GenerationSummary]:
        """Return the newest generations, without their chunks."""
        rows = self._store.list_generations(limit=limit, run_id=run_id)
        return [GenerationSummary.of(row) for row in rows]

    def partial(self, generation_id: str) -> dict[str, OutputChunk]:
        """Return the chunks in the making, by variant; see ``PartialChunk.shown``."""
        live = self._writer.find(generation_id)
        if live is None:
            return {}
        return {variant: chunk.shown() for variant, chunk in live.progress()[1].items()}

    def waiting_for(self, generation_id: str) -> int:
        """Return how many generations are written before this one, 0 once it has begun."""
        return self._writer.waiting_for(generation_id)

    def reader(self) -> AbstractContextManager[Reader]:
        """Give one who reads what happens in a generation, counted meanwhile.

        Raises:
            TooManyError: Too many do that.
        """
        return self._following.reader()

    def stop(self, generation_id: str) -> Generation:
        """Stop writing; what is written stays."""
        self._store.request_stop(generation_id)
        self._writer.stop(generation_id)
        return self.get(generation_id)

    def delete(self, generation_id: str) -> None:
        """Delete a generation; those that branched from it stay whole.

        Raises:
            NotFoundError: There is no such generation.
            InvalidChangeError: It is being written.
        """
        self._store.delete_generation(generation_id)

    async def write(self, start: Callable[[], Generation]) -> str:
        """Begin a text, wait until it has ended, and return its id; see ``result``.

        Args:
            start: Begins it, as ``start`` or ``branch`` do; called in a thread.

        Raises:
            TooManyError: Too many wait for their texts; nothing was begun.
            RetroError: It could not begin.
        """
        with self._waiting.take():
            generation_id = (await run_in_threadpool(start)).id
            if (live := self._writer.find(generation_id)) is not None:
                await live.wait()
        return generation_id

    def result(self, generation_id: str) -> Generation:
        """Return an ended generation, or raise what ended it.

        Raises:
            RetroError: It failed; the message is that of the failure.
        """
        error = self._writer.pop_error(generation_id)
        if isinstance(error, RetroError | JobError):
            raise error
        generation = self.get(generation_id)
        if generation.state == GenerationState.FAILED:
            raise RuntimeError(f"generation {generation_id} failed") from error
        return generation
