"""Writes the texts that wait, one at a time, in a thread of its own."""

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Generator as Events
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from app.errors import MissingError, OutOfMemoryError
from app.services.corpora import CorpusService
from app.services.fit import choose_step
from app.services.generators import Generators, Wanted, check_version
from app.services.live import LiveGeneration, PartialChunk, variant_name
from app.services.pretrained import is_pretrained
from jobs.errors import JobError
from jobs.home import Home
from jobs.store.rows import GenerationRow
from jobs.store.states import GenerationState
from jobs.store.store import Store
from retro.errors import RetroError
from retro.generation.events import ChunkEvent, ChunkStart, Event, OutputChunk, TokenEvent
from retro.memory import is_out_of_memory
from retro.run import CONFIG_NAME

if TYPE_CHECKING:
    from retro.generation.generate import Generator

MOST_KEPT_ERRORS = 100
FAULT = "The text could not be written because of a fault in the program. The log has the details."
SHORT_OF_MEMORY = (
    "The text needed more memory than there is; what is written was kept. Ask for fewer texts at "
    "once, a shorter text or fewer neighbors, or choose a smaller model."
)
STOPPED = "Stopped."
CLOSED = "The app was stopped while this text was being written."

logger = logging.getLogger(__name__)


class Writer:
    """The queue of texts and the thread that writes them."""

    def __init__(self, home: Home, store: Store, corpora: CorpusService) -> None:
        self._home = home
        self._store = store
        self._generators = Generators(home, corpora)
        self._live: dict[str, LiveGeneration] = {}
        self._errors: OrderedDict[str, Exception] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generation")
        self._is_closing = False

    def submit(self, live: LiveGeneration) -> None:
        """Put a text at the end of the queue."""
        with self._lock:
            self._live[live.id] = live
        self._thread.submit(self._write, live)

    def find(self, generation_id: str) -> LiveGeneration | None:
        """Return a text that waits or is being written, None if it has ended."""
        return self._live.get(generation_id)

    def waiting_for(self, generation_id: str) -> int:
        """Return how many texts are written before this one, 0 once it has begun."""
        with self._lock:
            live = self._live.get(generation_id)
            if live is None or live.started:
                return 0
            return list(self._live).index(generation_id)

    def stop(self, generation_id: str) -> None:
        """Stop writing a text; one that waits ends at once."""
        with self._lock:
            live = self._live.get(generation_id)
            if live is None:
                return
            live.stop.set()
            is_waiting = not live.started
            live.started = True
        if is_waiting:
            self._end(live, GenerationState.CANCELED, STOPPED, {})

    def pop_error(self, generation_id: str) -> Exception | None:
        """Return what made a text fail, once, and only for some time."""
        return self._errors.pop(generation_id, None)

    def close(self) -> None:
        """Stop what waits and what is being written; finished chunks stay."""
        self._is_closing = True
        with self._lock:
            waiting = [live for live in self._live.values() if not live.started]
            for live in self._live.values():
                live.stop.set()
                live.started = True
        for live in waiting:
            self._end(live, GenerationState.INTERRUPTED, CLOSED, {})
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _write(self, live: LiveGeneration) -> None:
        with self._lock:
            if live.started:  # stopped while it waited
                return
            live.started = True
        state, message = GenerationState.SUCCEEDED, ""
        result: dict[str, Any] = {}
        began = time.monotonic()
        try:
            self._write_texts(live, result)
            if any(text["reason"] == "stopped" for text in result.values()):
                state, message = GenerationState.CANCELED, STOPPED
                if self._is_closing:
                    state, message = GenerationState.INTERRUPTED, CLOSED
        except (RetroError, JobError) as error:
            state, message, live.error = GenerationState.FAILED, str(error), error
        except Exception as error:
            logger.exception("generation %s failed", live.id)
            live.error = self._for_people(live, error)
            state, message = GenerationState.FAILED, FAULT
            if isinstance(live.error, RetroError):
                message = str(live.error)
        finally:
            result["seconds"] = time.monotonic() - began
            self._end(live, state, message, result)

    def _for_people(self, live: LiveGeneration, error: Exception) -> Exception:
        """Return the error to report, where there is a better one than what was raised."""
        if is_out_of_memory(error):
            self._generators.close()
            at_work = [job for job in self._store.held_jobs() if job.kind == "train"]
            beside = "".join(
                f" Job {job.number} is training beside it: pause it." for job in at_work
            )
            return OutOfMemoryError(f"{SHORT_OF_MEMORY}{beside}")
        # Often, files were deleted under the writer.
        return self._missing_files(live) or error

    def _end(
        self, live: LiveGeneration, state: GenerationState, message: str, result: dict[str, Any]
    ) -> None:
        try:
            self._keep_unfinished(live)
            self._store.finish_generation(live.id, state, message, result)
        except Exception:
            logger.exception("the end of generation %s could not be stored", live.id)
        finally:
            with self._lock:
                self._live.pop(live.id, None)
                if live.error is not None:
                    self._errors[live.id] = live.error
                    while len(self._errors) > MOST_KEPT_ERRORS:
                        self._errors.popitem(last=False)
            live.end()

    def _keep_unfinished(self, live: LiveGeneration) -> None:
        """Store chunks that an error has cut off."""
        for variant, chunk in live.progress()[1].items():
            if chunk.token_ids:
                self._store.append_chunk(live.id, chunk.ended().to_dict(), variant, chunk.index)
                live.finish_chunk(variant, chunk.index)

    def _write_texts(self, live: LiveGeneration, result: dict[str, Any]) -> None:
        """Write all texts of a generation, side by side and chunk by chunk."""
        self._check_files(live)
        choose_step(self._home, live.run_id, live.run_name, live.step)
        corpus_id = live.corpus_id if "on" in live.modes else None
        wanted = Wanted(live.run_id, live.step, live.chunk_size)
        generator = self._generators.open(wanted, corpus_id)
        row = self._store.get_generation(live.id)
        check_version(generator, row.settings)
        with contextlib.ExitStack() as stack:
            sides = {mode: self._events(live, generator, row, mode) for mode in live.modes}
            for events in sides.values():
                stack.callback(events.close)
            seconds = dict.fromkeys(sides, 0.0)
            while sides:
                for mode, events in list(sides.items()):
                    began = time.perf_counter()
                    goes_on = self._take_until_chunk(live, row, mode, events, result)
                    seconds[mode] += time.perf_counter() - began
                    if not goes_on:
                        del sides[mode]
                self._check_files(live)
        if len(live.modes) > 1:
            # The engine's own clock also runs while the other side is being written.
            for mode, spent in seconds.items():
                result[mode]["seconds"] = spent

    def _events(
        self, live: LiveGeneration, generator: "Generator", row: GenerationRow, mode: str
    ) -> Events[Event]:
        from retro.generation.prefix import Prefix  # noqa: PLC0415  # imports torch

        begun = row.chunks.get(mode)
        yield from generator.generate(
            Prefix.from_chunks(begun) if begun else live.prompt,
            live.config,
            retrieval=mode == "on",
            steering=live.steering,
            score_other=len(live.modes) > 1,
            should_stop=live.stop.is_set,
        )

    def _take_until_chunk(
        self,
        live: LiveGeneration,
        row: GenerationRow,
        mode: str,
        events: Events[Event],
        result: dict[str, Any],
    ) -> bool:
        """Take events until a chunk is finished; return False if there are no more."""
        for event in events:
            variant = variant_name(mode, event.sample)
            if isinstance(event, ChunkStart):
                taken_over = row.chunks.get(variant, [])[event.index :]
                head = OutputChunk.from_dict(taken_over[0]) if taken_over else None
                live.begin_chunk(variant, PartialChunk.begin(event, head))
            elif isinstance(event, TokenEvent):
                live.add_token(variant, event)
            elif isinstance(event, ChunkEvent):
                chunk = event.chunk.to_dict()
                self._store.append_chunk(live.id, chunk, variant, event.chunk.index)
                live.finish_chunk(variant, event.chunk.index)
                return True
            else:
                result[variant] = {
                    "reason": event.reason,
                    "num_tokens": event.num_tokens,
                    "seconds": event.seconds,
                    "slid": event.slid,
                }
        return False

    def _check_files(self, live: LiveGeneration) -> None:
        """Refuse to go on when somebody has deleted what a text is written from.

        Raises:
            MissingError: The run or the corpus is gone.
        """
        if (gone := self._missing_files(live)) is not None:
            raise gone

    def _has_run(self, run_id: str) -> bool:
        return (self._home.run_dir(run_id) / CONFIG_NAME).exists()

    def _missing_files(self, live: LiveGeneration) -> MissingError | None:
        # A checkpoint that is loaded may go: training deletes old ones.
        has_model = is_pretrained(live.run_id) or self._has_run(live.run_id)
        if not has_model:
            return MissingError(
                f"Run {live.run_name!r} was deleted before this text was finished. "
                f"What is written was kept; choose another model to go on."
            )
        if "on" not in live.modes or live.corpus_id is None:
            return None
        if not self._home.corpus_dir(live.corpus_id).exists():
            return MissingError(
                f"Corpus {live.corpus_name!r} was deleted before this text was finished. "
                f"What is written was kept; choose another corpus, or switch retrieval off."
            )
        return None
