"""Functions for ``gradio_client`` and for tools; nothing else of the pages can be called."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import gradio as gr
from gradio.events import api
from starlette.concurrency import run_in_threadpool

from app.services.following import Reader
from app.services.live import variants_of
from app.services.services import Services
from jobs.errors import JobError
from jobs.redaction import redact
from jobs.store.states import GenerationState
from retro.config.sampling import SamplingConfig
from retro.errors import ConfigError, RetroError, shown

Json = dict[str, Any]
DEFAULTS = SamplingConfig()
CALLABLE: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "public"}
"""Texts have a queue of their own, so calls may wait side by side."""


@contextlib.contextmanager
def errors_for_people() -> Iterator[None]:
    """Let the message of an error meant for people reach the client."""
    try:
        yield
    except (RetroError, JobError) as error:
        raise gr.Error(redact(str(error)), print_exception=False) from error


def build(services: Services) -> None:
    """Add the functions to the Gradio app that is being made."""
    _add_writing(services)
    _add_reading(services)


def _add_writing(services: Services) -> None:
    async def generate(
        run_id: str,
        prompt: str,
        max_new_tokens: int = DEFAULTS.max_new_tokens,
        temperature: float = DEFAULTS.temperature,
        top_k: int = DEFAULTS.top_k,
        top_p: float = DEFAULTS.top_p,
        min_p: float = DEFAULTS.min_p,
        repetition_penalty: float = DEFAULTS.repetition_penalty,
        seed: int = DEFAULTS.seed,
        num_neighbors: int = DEFAULTS.num_neighbors,
        num_samples: int = DEFAULTS.num_samples,
        stop: list[str] = [],  # noqa: B006  # read only; the client must see a list
        retrieval: str = "on",
        corpus_id: str | None = None,
        checkpoint_step: int | None = None,
    ) -> Json:
        """Continue a prompt and return the text with the neighbors that conditioned each chunk.

        Args:
            run_id: Id of the training run whose model writes; see list_runs.
            prompt: The beginning of the text.
            max_new_tokens: Most tokens to write.
            temperature: Divides the logits; 0 always takes the likeliest token.
            top_k: Draw from this many likeliest tokens only; 0 is all.
            top_p: Draw from the likeliest tokens that together reach this probability.
            min_p: Draw from tokens at least this share as likely as the likeliest one.
            repetition_penalty: Makes tokens that are in the text less likely; 1 does nothing.
            seed: The same seed and settings write the same text.
            num_neighbors: Neighbors read for each chunk.
            num_samples: Texts to write, each with the next seed.
            stop: The text ends before the first of these that would appear in it.
            retrieval: "on", "off", or "both" for two texts side by side.
            corpus_id: Id of the corpus to retrieve from; none is the one it was trained on.
            checkpoint_step: Step of the checkpoint; none is the newest.

        Returns:
            The generation: id, text, chunks with their neighbors, settings.
        """
        order = _order(
            run_id, prompt, retrieval, corpus_id, checkpoint_step,
            max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
            min_p=min_p, repetition_penalty=repetition_penalty, seed=seed,
            num_neighbors=num_neighbors, num_samples=num_samples, stop=stop,
        )  # fmt: skip
        return await _finished(services, lambda: services.generations.start(**order()))

    async def generate_stream(
        run_id: str,
        prompt: str,
        max_new_tokens: int = DEFAULTS.max_new_tokens,
        temperature: float = DEFAULTS.temperature,
        top_k: int = DEFAULTS.top_k,
        top_p: float = DEFAULTS.top_p,
        min_p: float = DEFAULTS.min_p,
        repetition_penalty: float = DEFAULTS.repetition_penalty,
        seed: int = DEFAULTS.seed,
        num_neighbors: int = DEFAULTS.num_neighbors,
        stop: list[str] = [],  # noqa: B006  # read only; the client must see a list
        retrieval: str = "on",
        corpus_id: str | None = None,
        checkpoint_step: int | None = None,
    ) -> AsyncIterator[str]:
        """Continue a prompt and yield the text so far, again and again, while it is written.

        A client that goes away does not stop the text. With retrieval "both", the text with
        retrieval on is told.

        Args:
            run_id: Id of the training run whose model writes; see list_runs.
            prompt: The beginning of the text.
            max_new_tokens: Most tokens to write.
            temperature: Divides the logits; 0 always takes the likeliest token.
            top_k: Draw from this many likeliest tokens only; 0 is all.
            top_p: Draw from the likeliest tokens that together reach this probability.
            min_p: Draw from tokens at least this share as likely as the likeliest one.
            repetition_penalty: Makes tokens that are in the text less likely; 1 does nothing.
            seed: The same seed and settings write the same text.
            num_neighbors: Neighbors read for each chunk.
            stop: The text ends before the first of these that would appear in it.
            retrieval: "on", "off", or "both".
            corpus_id: Id of the corpus to retrieve from; none is the one it was trained on.
            checkpoint_step: Step of the checkpoint; none is the newest.

        Yields:
            The prompt with what has been written so far.
        """
        order = _order(
            run_id, prompt, retrieval, corpus_id, checkpoint_step,
            max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
            min_p=min_p, repetition_penalty=repetition_penalty, seed=seed,
            num_neighbors=num_neighbors, stop=stop,
        )  # fmt: skip
        with errors_for_people(), services.generations.reader() as reader:
            started = await run_in_threadpool(lambda: services.generations.start(**order()))
            await reader.open(started["id"])
            async for text in _texts(services, started, reader):
                yield text

    async def branch(
        generation_id: str,
        chunk_index: int,
        variant: str | None = None,
        seed: int | None = None,
        exclude_chunks: list[int] = [],  # noqa: B006  # read only; the client must see a list
        exclude_documents: list[str] = [],  # noqa: B006  # the same
        neighbors: list[Json] | None = None,
        retrieval: str | None = None,
        num_neighbors: int | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Json:
        """Write a text anew from one of its chunks on, and return it when it is finished.

        What is left out stays as it was. Without a seed it is that of before if something else
        was changed, so that only the change shows, and otherwise the next one.

        Args:
            generation_id: Id of the text.
            chunk_index: First chunk to be written anew, or the one after the last.
            variant: Which text of the generation, as "on", "off" or "on:1".
            seed: Seed of the new text.
            exclude_chunks: Ids of chunks that must not be retrieved.
            exclude_documents: Paths of documents that nothing may be retrieved from.
            neighbors: Exactly the neighbors the first new chunk reads, each with a chunk_id, or
                with a text and a continuation.
            retrieval: "on" or "off".
            num_neighbors: Neighbors read for each chunk.
            max_new_tokens: Most tokens to write.
            temperature: Divides the logits.

        Returns:
            The new generation, with parent_id and branch_index.
        """

        def start() -> Json:
            return services.generations.branch(
                text_of("generation_id", generation_id),
                chunk_index=chunk_index,
                variant=variant,
                retrieval=retrieval,
                seed=seed,
                exclude_chunks=_items("exclude_chunks", exclude_chunks),
                exclude_documents=_items("exclude_documents", exclude_documents),
                neighbors=None if neighbors is None else _items("neighbors", neighbors),
                num_neighbors=num_neighbors,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
            )

        return await _finished(services, start)

    # Gradio shows what one step yields.
    generate_stream.__annotations__["return"] = str
    for function in (generate, generate_stream, branch):
        api(function, **CALLABLE)


def _add_reading(services: Services) -> None:
    def get_generation(generation_id: str) -> Json:
        """Return a text as it stands, with its chunks and their neighbors.

        Args:
            generation_id: Id of the text.

        Returns:
            The generation; state tells whether it is still being written.
        """
        with errors_for_people():
            return services.generations.get(text_of("generation_id", generation_id))

    def search(corpus_id: str, text: str, k: int = 5) -> list[Json]:
        """Find the chunks of a corpus that are nearest to a text.

        Args:
            corpus_id: Id of the corpus; see list_corpora.
            text: What to look for.
            k: How many chunks to return.

        Returns:
            Chunks, the nearest first, each with document, place, distance and text.
        """
        with errors_for_people():
            return services.corpora.search(
                text_of("corpus_id", corpus_id), text_of("text", text), whole_of("k", k)
            )

    def list_runs() -> list[Json]:
        """Return all training runs, the newest first.

        Returns:
            Runs, each with id, name, state, step and settings.
        """
        with errors_for_people():
            return services.runs.list_runs()

    def list_corpora() -> list[Json]:
        """Return all corpora, the newest first.

        Returns:
            Corpora, each with id, name, state and counts.
        """
        with errors_for_people():
            return services.corpora.list_corpora()

    for function in (get_generation, search, list_runs, list_corpora):
        api(function, **CALLABLE)


def _order(
    run_id: str,
    prompt: str,
    retrieval: str,
    corpus_id: str | None,
    checkpoint_step: int | None,
    **sampling: Any,
) -> Callable[[], Json]:
    """Return what makes the arguments of ``start``; calling it checks their types."""

    def make() -> Json:
        if checkpoint_step is not None:
            whole_of("checkpoint_step", checkpoint_step)
        return {
            "run_id": text_of("run_id", run_id),
            "prompt": text_of("prompt", prompt),
            "retrieval": retrieval,
            "corpus_id": None if corpus_id is None else text_of("corpus_id", corpus_id),
            "checkpoint_step": checkpoint_step,
            "sampling": sampling,
        }

    return make


def text_of(name: str, value: object) -> str:
    """Return an argument that must be a text."""
    # Gradio does not check what a client sends against the type hints.
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a text, got {shown(value)}.")
    return value


def whole_of(name: str, value: object) -> int:
    """Return an argument that must be a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} must be a whole number, got {shown(value)}.")
    return value


def _items(name: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{name} must be a list, got {shown(value)}.")
    return value


async def _finished(services: Services, start: Callable[[], Json]) -> Json:
    """Start a text and return it when it has ended."""
    with errors_for_people():
        written = await services.generations.write(start)
        generation = await run_in_threadpool(services.generations.get, written)
    _refuse_failed(generation)
    return generation


def _refuse_failed(generation: Mapping[str, Any]) -> None:
    if generation["state"] == GenerationState.FAILED:
        raise gr.Error(str(generation["message"]), print_exception=False)


async def _texts(
    services: Services, started: Mapping[str, Any], reader: Reader
) -> AsyncIterator[str]:
    """Yield the first text of a generation so far, whenever there is more of it."""
    told = variants_of(started["settings"])[0]
    finished, partial = "", ""
    async for step in reader.steps():
        for name, value in step.events:
            if value["variant"] != told:
                continue
            if name == "token":
                partial += value["text"]
            elif name == "chunk_end":
                finished, partial = finished + value["text"], ""
        # Also when there is no more: Gradio sees that a client is gone by what it cannot send.
        yield finished + partial
    generation = await run_in_threadpool(services.generations.get, started["id"])
    _refuse_failed(generation)
    yield (generation.get(told) or generation)["text"]
