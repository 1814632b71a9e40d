"""Generation: written in a background thread, one at a time, into its row.

Pages and streams attach to a generation by its id, so a reload or a closed browser loses
nothing. Torch is imported when the first text is written, not when the app starts.
"""

import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.errors import MissingError
from app.services.corpora import CorpusService
from app.services.runs import RunService
from jobs.errors import JobError
from jobs.home import Home
from jobs.rows import GenerationRow
from jobs.states import GenerationState
from jobs.store import Store
from retro.config import SamplingConfig, config_from_dict, config_to_dict, shown
from retro.data.tokenizer import check_text
from retro.errors import ArtifactMissingError, ConfigError, InputError, RetroError
from retro.run import list_checkpoints

if TYPE_CHECKING:
    from retro.generation.generate import Generator

RETRIEVAL_MODES = {"on": ("on",), "off": ("off",), "both": ("on", "off")}
MOST_PROMPT_CHARACTERS = 1_000_000
MOST_CACHED_GENERATORS = 2
MOST_KEPT_ERRORS = 100
FAULT = "The text could not be written because of a fault in the program. The log has the details."

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class LiveGeneration:
    """A generation this process is writing or will write next."""

    id: str
    run_id: str
    corpus_id: str
    step: int
    prompt: str
    config: SamplingConfig
    variants: tuple[str, ...]
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Everything that happened, in order; only ever appended to."""
    partial: dict[str, str] = field(default_factory=dict)
    """Variant to the text of the chunk that is being written."""
    started: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class GenerationService:
    """Starts, follows, stops and lists generations."""

    def __init__(self, home: Home, store: Store, corpora: CorpusService, runs: RunService) -> None:
        self._home = home
        self._store = store
        self._corpora = corpora
        self._runs = runs
        self._live: dict[str, LiveGeneration] = {}
        self._errors: OrderedDict[str, Exception] = OrderedDict()
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generation")
        self._generators: dict[tuple[str, int, str, str], Generator] = {}
        self._shares_cores = False

    def recover(self) -> None:
        """Mark what a former web process left unfinished; call once at start-up."""
        self._store.interrupt_generations()

    def close(self) -> None:
        """Stop what is being written; finished chunks stay."""
        with self._lock:
            for live in self._live.values():
                live.stop.set()
        self._writer.shutdown(wait=True, cancel_futures=True)

    def start(
        self,
        *,
        run_id: str,
        prompt: str,
        checkpoint_step: int | None = None,
        corpus_id: str | None = None,
        retrieval: str = "on",
        sampling: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Begin to write a text; the work goes on in the background.

        Args:
            run_id: Whose model writes.
            prompt: What the text continues.
            checkpoint_step: Which checkpoint; None is the newest.
            corpus_id: What it retrieves from; None is the corpus it was trained on.
            retrieval: ``on``, ``off`` or ``both``, the last with one seed.
            sampling: Fields of ``SamplingConfig``.

        Returns:
            The generation, still without text.

        Raises:
            InputError: The prompt is empty or far too long.
            ConfigError: A setting is unknown or out of range.
            ArtifactMissingError: The run has no checkpoint yet, or the corpus no index.
        """
        if retrieval not in RETRIEVAL_MODES:
            modes = ", ".join(repr(mode) for mode in RETRIEVAL_MODES)
            raise ConfigError(f"retrieval must be one of {modes}, got {shown(retrieval)}.")
        if not prompt.strip():
            raise InputError("The prompt must not be empty. Type the beginning of a text.")
        if len(prompt) > MOST_PROMPT_CHARACTERS:
            raise InputError(
                f"The prompt may have at most {MOST_PROMPT_CHARACTERS:,} characters, "
                f"got {len(prompt):,}. Shorten it."
            )
        check_text(prompt)
        config = config_from_dict(SamplingConfig, sampling or {})
        run = self._runs.get(run_id)
        step = self._choose_step(run, checkpoint_step)
        chosen_corpus = corpus_id or str(run["corpus_id"])
        fingerprint = self._corpora.open(chosen_corpus).fingerprint
        settings = {
            **config_to_dict(config),
            "retrieval": retrieval,
            "checkpoint_step": step,
            "corpus_fingerprint": fingerprint,
        }
        row = self._store.create_generation(run_id, chosen_corpus, prompt, settings)
        live = LiveGeneration(
            id=row.id,
            run_id=run_id,
            corpus_id=chosen_corpus,
            step=step,
            prompt=prompt,
            config=config,
            variants=RETRIEVAL_MODES[retrieval],
        )
        with self._lock:
            self._live[row.id] = live
        self._writer.submit(self._write, live)
        return self.get(row.id)

    def _choose_step(self, run: dict[str, Any], wanted: int | None) -> int:
        # The files, not the rows: somebody may have deleted a folder by hand.
        steps = [record.step for record in list_checkpoints(self._home.run_dir(run["id"]))]
        if not steps:
            raise ArtifactMissingError(
                f"Run {run['name']!r} has no checkpoint yet. Wait until training has written one."
            )
        if wanted is None:
            return steps[-1]
        if wanted not in steps:
            have = ", ".join(f"{step:,}" for step in steps)
            raise MissingError(
                f"Run {run['name']!r} has no checkpoint at step {wanted:,}. It has: {have}."
            )
        return wanted

    def get(self, generation_id: str) -> dict[str, Any]:
        """Return a generation as it stands."""
        row = self._store.get_generation(generation_id)
        return generation_to_dict(row)

    def list_generations(self, limit: int = 30, run_id: str | None = None) -> list[dict[str, Any]]:
        """Return the newest generations, without their chunks."""
        rows = self._store.list_generations(limit=limit, run_id=run_id)
        return [summary_to_dict(row) for row in rows]

    def partial(self, generation_id: str) -> dict[str, str]:
        """Return the text of the chunk that is being written, per variant."""
        live = self._live.get(generation_id)
        return dict(live.partial) if live else {}

    def waiting_for(self, generation_id: str) -> int:
        """Return how many generations are written before this one, 0 once it has begun."""
        with self._lock:
            ids = list(self._live)
            live = self._live.get(generation_id)
        return 0 if live is None or live.started else ids.index(generation_id)

    def stop(self, generation_id: str) -> dict[str, Any]:
        """Stop writing; what is written stays."""
        self._store.request_stop(generation_id)
        if live := self._live.get(generation_id):
            live.stop.set()
        return self.get(generation_id)

    def result(self, generation_id: str) -> dict[str, Any]:
        """Return an ended generation, or raise what ended it.

        Raises:
            RetroError: It failed; the message is that of the failure.
        """
        error = self._errors.pop(generation_id, None)
        if isinstance(error, RetroError | JobError):
            raise error
        generation = self.get(generation_id)
        if generation["state"] == GenerationState.FAILED:
            raise RuntimeError(f"generation {generation_id} failed") from error
        return generation

    def follow(self, generation_id: str) -> "LiveGeneration | None":
        """Return the running generation, None if it has ended or never was here."""
        return self._live.get(generation_id)

    def _write(self, live: LiveGeneration) -> None:
        state, message = GenerationState.SUCCEEDED, ""
        result: dict[str, Any] = {}
        live.started = True
        began = time.monotonic()
        try:
            if not live.stop.is_set():
                generator = self._generator(live)
                for variant in live.variants:
                    result[variant] = self._write_variant(live, generator, variant)
            if live.stop.is_set():
                state, message = GenerationState.CANCELED, "Stopped."
        except (RetroError, JobError) as error:
            state, message, live.error = GenerationState.FAILED, str(error), error
        except Exception as error:
            logger.exception("generation %s failed", live.id)
            state, message, live.error = GenerationState.FAILED, FAULT, error
        finally:
            result["seconds"] = time.monotonic() - began
            self._end(live, state, message, result)

    def _end(
        self, live: LiveGeneration, state: GenerationState, message: str, result: dict[str, Any]
    ) -> None:
        try:
            self._store.finish_generation(live.id, state, message, result)
        finally:
            if state is GenerationState.FAILED:
                live.events.append(("error", {"detail": message}))
            live.partial.clear()
            with self._lock:
                self._live.pop(live.id, None)
                if live.error is not None:
                    self._errors[live.id] = live.error
                    while len(self._errors) > MOST_KEPT_ERRORS:
                        self._errors.popitem(last=False)
            live.ended.set()

    def _write_variant(
        self, live: LiveGeneration, generator: "Generator", variant: str
    ) -> dict[str, Any]:
        from retro.generation.generate import ChunkEvent, TokenEvent  # noqa: PLC0415  # torch

        finish: dict[str, Any] = {}
        live.partial[variant] = ""
        for event in generator.generate(
            live.prompt, live.config, retrieval=variant == "on", should_stop=live.stop.is_set
        ):
            if isinstance(event, ChunkEvent):
                chunk = event.chunk.to_dict()
                self._store.append_chunk(live.id, chunk, "on" if variant == "on" else "off")
                live.partial[variant] = ""
                live.events.append(("chunk", {"variant": variant, **chunk}))
            elif isinstance(event, TokenEvent):
                live.partial[variant] += event.text
                where = {"variant": variant, "chunk_index": event.chunk_index}
                token = {"text": event.text, "token_id": event.token_id}
                live.events.append(("token", {**where, **token}))
            else:
                finish = {
                    "reason": event.reason,
                    "num_tokens": event.num_tokens,
                    "seconds": event.seconds,
                    "slid": event.slid,
                }
        return finish

    def _generator(self, live: LiveGeneration) -> "Generator":
        # Only the writer thread gets here, so the cache needs no lock.
        from retro.device import share_cores  # noqa: PLC0415  # imports torch
        from retro.generation.generate import Generator  # noqa: PLC0415

        if not self._shares_cores:
            share_cores()
            self._shares_cores = True
        fingerprint = self._corpora.open(live.corpus_id).fingerprint
        key = (live.run_id, live.step, live.corpus_id, fingerprint)
        if key not in self._generators:
            while len(self._generators) >= MOST_CACHED_GENERATORS:
                self._generators.pop(next(iter(self._generators)))
            self._generators[key] = Generator.open(
                self._home.run_dir(live.run_id),
                corpus_dir=self._home.corpus_dir(live.corpus_id),
                step=live.step,
            )
        return self._generators[key]


def summary_to_dict(row: GenerationRow) -> dict[str, Any]:
    """Return a generation without its chunks."""
    return {
        "id": row.id,
        "run_id": row.run_id,
        "run_name": row.run_name,
        "corpus_id": row.corpus_id,
        "state": row.state.value,
        "message": row.message,
        "prompt": row.prompt,
        "settings": row.settings,
        "result": row.result,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }


def generation_to_dict(row: GenerationRow) -> dict[str, Any]:
    """Return a generation as the REST routes answer it.

    One object with its chunks; with retrieval "both", one object under ``on`` and one
    under ``off``.
    """
    summary = summary_to_dict(row)
    variants = RETRIEVAL_MODES[row.settings["retrieval"]]
    texts = {variant: _variant(row, variant) for variant in variants}
    if len(variants) == 1:
        return {**summary, **texts[variants[0]]}
    return {**summary, **{name: {"id": row.id, **text} for name, text in texts.items()}}


def _variant(row: GenerationRow, variant: str) -> dict[str, Any]:
    chunks = row.chunks.get(variant, [])
    return {
        "text": "".join(chunk["text"] for chunk in chunks),
        "prompt": row.prompt,
        "seed": row.settings["seed"],
        "chunks": chunks,
    }
