"""One call of the generator, from the prompt to the last token.

Shape suffixes: N texts side by side, T tokens, L chunks, M tokens per chunk, K neighbors, V
vocabulary.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from retro.config.sampling import SamplingConfig
from retro.data.tokenizer import Tokenizer
from retro.device import one_blas_thread
from retro.generation.events import (
    ChunkEvent,
    ChunkStart,
    Event,
    FinishEvent,
    FinishReason,
)
from retro.generation.finder import NOTHING, Found, NeighborFinder, make_found
from retro.generation.prefix import Prefix
from retro.generation.reader import NO_TOKEN, Reader, Reading, Values
from retro.generation.sample import Sample
from retro.generation.sampling import Draws, logprob
from retro.generation.text import TokenDecoder
from retro.generation.writer import ChunkDraft, SampleWriter
from retro.model.language_model import ReadingModel, TokenReader


class Session:
    """Writes ``num_samples`` texts from one beginning.

    Args:
        model: In eval mode.
        step: Reads single tokens faster than the model; None where nothing does.
        tokenizer: Of the model.
        config: Settings.
        finder: Finds neighbors; None with retrieval off and nothing to compare with.
        retrieval: Whether the texts are written with neighbors.
        score_other: Whether the tokens are also scored the other way.
    """

    def __init__(
        self,
        model: ReadingModel,
        step: TokenReader | None,
        tokenizer: Tokenizer,
        config: SamplingConfig,
        *,
        finder: NeighborFinder | None,
        retrieval: bool,
        score_other: bool,
    ) -> None:
        self._model = model
        self._step = step
        self._tokenizer = tokenizer
        self._config = config
        self._finder = finder
        self._retrieval = retrieval
        self._score_other = score_other
        self._size = model.chunk_size
        self._padding = 0
        self._began = 0.0

    @torch.inference_mode()
    def run(
        self, tokens: list[int], prefix: Prefix | None, should_stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield the events; see ``Generator.generate``."""
        many = self._step is not None and self._step.uses_all_threads
        with contextlib.nullcontext() if many else one_blas_thread():
            yield from self._run(tokens, prefix, should_stop)

    def _run(
        self, tokens: list[int], prefix: Prefix | None, should_stop: Callable[[], bool]
    ) -> Iterator[Event]:
        if self._finder is not None:
            self._finder.open()
        self._began = time.perf_counter()
        first = len(prefix.chunks[0].token_ids) if prefix else len(tokens)
        self._padding = -first % self._size
        own = self._found(tokens, prefix, retrieval=self._retrieval)
        reader = Reader(
            self._model,
            self._step,
            left_padding=self._padding,
            keeps_shares=True,
            retrieval=self._retrieval,
        )
        values = [found.values_KR for found in own]
        reading = reader.read([tokens], [values], scored=prefix is None)
        other, other_reading = None, None
        if self._score_other:
            other = Reader(
                self._model, None, left_padding=self._padding, retrieval=not self._retrieval
            )
            found = self._found(tokens, prefix, retrieval=not self._retrieval)
            values = [item.values_KR for item in found]
            other_reading = other.read([tokens], [values], scored=prefix is None)
        if prefix is None:
            yield from self._prompt_events(tokens, own, reading, other_reading)
        samples = [
            self._sample(number, tokens, own, reading, other, other_reading)
            for number in range(self._config.num_samples)
        ]
        if prefix is not None:
            for sample in samples:
                self._resume(sample, len(own), prefix)
        if len(samples) > 1:
            reader = reader.rows([0] * len(samples))
        yield from self._write(samples, reader, should_stop)

    def _num_chunks(self, num_tokens: int) -> int:
        """Return how many chunks are complete after a number of tokens."""
        return (self._padding + num_tokens) // self._size

    def _found(
        self, tokens: Sequence[int], prefix: Prefix | None, *, retrieval: bool
    ) -> list[Found]:
        """Return the neighbors of every complete chunk that is there already."""
        count = self._num_chunks(len(tokens))
        if not retrieval:
            return [NOTHING] * count
        assert self._finder is not None
        padded = [NO_TOKEN] * self._padding + list(tokens)
        chunks_LM = np.array(padded[: count * self._size], dtype=np.int32).reshape(-1, self._size)
        if prefix is None or not prefix.has_neighbors:
            return self._finder.find(chunks_LM, range(1, count + 1)) if count else []
        # The chunks were written from these; only what comes after the last is new.
        known = [
            make_found([neighbor.unread() for neighbor in chunk.neighbors], self._size)
            for chunk in prefix.chunks[1 : count + 1]
        ]
        if len(known) < count:
            known += self._finder.find(chunks_LM[len(known) :], range(len(known) + 1, count + 1))
        return known

    def _sample(
        self,
        number: int,
        tokens: Sequence[int],
        found: Sequence[Found],
        reading: Reading,
        other: Reader | None,
        other_reading: Reading | None,
    ) -> Sample:
        seen_V = None
        if self._config.repetition_penalty != 1:
            seen_V = np.zeros(self._model.vocab_size, dtype=bool)
            seen_V[list(tokens)] = True
        shares = reading.share_NTK2
        return Sample(
            writer=SampleWriter(number, self._tokenizer, tokens, self._config.stop),
            draws=Draws(self._config.seed + number),
            seen_V=seen_V,
            found=found[-1] if found else NOTHING,
            logits_V=reading.logits_NV[0],
            share_K2=None if shares is None else shares[0, -1],
            other=None if other is None else other.rows([0]),
            other_logits_V=None if other_reading is None else other_reading.logits_NV[0],
        )

    def _prompt_events(
        self,
        tokens: Sequence[int],
        found: Sequence[Found],
        reading: Reading,
        other: Reading | None,
    ) -> Iterator[Event]:
        """Yield the chunks of the prompt, for every sample."""
        decoder = TokenDecoder(self._tokenizer)
        for index in range(len(found)):
            start = max(0, index * self._size - self._padding)
            stop = (index + 1) * self._size - self._padding
            before = found[index - 1] if index else NOTHING
            draft = ChunkDraft(index, before.neighbors, is_prompt=True)
            for place in range(start, stop):
                share_K2, value = None, None
                if place:
                    value = float(reading.logprob_NT[0, place - 1])
                    if reading.share_NTK2 is not None and before.neighbors:
                        share_K2 = reading.share_NTK2[0, place - 1]
                draft.add(tokens[place], decoder.add(tokens[place]), value, share_K2)
            if other is not None:
                draft.other_logprobs = [
                    float(other.logprob_NT[0, place - 1]) if place else None
                    for place in range(start, stop)
                ]
            for sample in range(self._config.num_samples):
                yield ChunkStart(
                    sample=sample, index=index, is_prompt=True, neighbors=draft.neighbors
                )
                yield ChunkEvent(sample=sample, chunk=draft.build())

    def _resume(self, sample: Sample, index: int, prefix: Prefix) -> None:
        """Take up an unfinished chunk where it was left."""
        chunk = prefix.unfinished(self._size)
        if chunk is None:
            return
        draft = ChunkDraft(index, sample.found.neighbors)
        # Without neighbors so far, its tokens have read none, even where the next ones will.
        shares = [neighbor.shares for neighbor in chunk.neighbors]
        share_K2 = np.array(shares, dtype=np.float32) if shares else None
        texts = sample.writer.texts[-len(chunk.token_ids) :]
        unknown: list[float | None] = [None] * len(chunk.token_ids)
        for token, text, value in zip(
            chunk.token_ids, texts, chunk.logprobs or unknown, strict=True
        ):
            draft.add(token, text, value, share_K2)
        if self._score_other:
            draft.other_logprobs = chunk.other_logprobs or unknown
        sample.writer.begin(draft)

    def _write(
        self, samples: list[Sample], reader: Reader, should_stop: Callable[[], bool]
    ) -> Iterator[Event]:
        for number in range(1, self._config.max_new_tokens + 1):
            stopped = should_stop()
            for sample in samples:
                if stopped:
                    sample.reason = "stopped"
                else:
                    yield from self._write_token(
                        sample, is_last=number == self._config.max_new_tokens
                    )
                if sample.reason is not None:
                    yield from self._finish(sample, sample.reason, slid=reader.slid)
            going_on = [row for row, sample in enumerate(samples) if sample.reason is None]
            if not going_on:
                return
            if len(going_on) < len(samples):
                reader, samples = reader.rows(going_on), [samples[row] for row in going_on]
            self._read(samples, reader)

    def _write_token(self, sample: Sample, *, is_last: bool) -> Iterator[Event]:
        """Draw a token and add it to the text; the sample has a reason afterwards if it ends."""
        writer = sample.writer
        token = sample.draw(self._config, never=self._tokenizer.pad_id)
        if token == self._tokenizer.eos_id:
            sample.reason = "end"
            return
        if writer.draft is None:
            index = self._num_chunks(len(writer.tokens))
            writer.begin(ChunkDraft(index, sample.found.neighbors))
        sample.write(token)
        if writer.hit_stop:
            sample.reason = "stop"
        elif is_last:
            sample.reason = "length"
        elif self._is_complete(writer):
            self._score(sample)
            writer.end_chunk()
        if sample.reason is None:
            yield from writer.tell()

    def _is_complete(self, writer: SampleWriter) -> bool:
        return (self._padding + len(writer.tokens)) % self._size == 0

    def _finish(self, sample: Sample, reason: FinishReason, *, slid: bool) -> Iterator[Event]:
        """End a text; its last chunk may be incomplete."""
        writer = sample.writer
        if writer.draft is not None:
            self._score(sample)
            if reason != "stop":
                writer.finish_text()
            writer.end_chunk()
        yield from writer.tell(is_last=True)
        yield FinishEvent(
            sample=writer.sample,
            reason=reason,
            num_tokens=writer.num_written,
            seconds=time.perf_counter() - self._began,
            slid=slid,
        )

    def _score(self, sample: Sample) -> None:
        """Let the other reader read what is new in the chunk."""
        if sample.other is None:
            return
        assert sample.writer.draft is not None
        draft = sample.writer.draft
        known = list(draft.other_logprobs or [])
        tokens = draft.tokens[len(known) :]
        if not tokens:
            return
        values: list[Values] = []
        if self._is_complete(sample.writer):
            values = [None]
            if not self._retrieval:
                chunk_1M = np.array([draft.tokens], dtype=np.int32)
                values = [self._find(chunk_1M, draft.index + 1)[0].values_KR]
        # In the windows in which they were written.
        number = sample.other.num_before_move(len(tokens))
        parts = [tokens[:number], tokens[number:]] if number < len(tokens) else [tokens]
        for part in parts:
            assert sample.other_logits_V is not None
            known.append(logprob(sample.other_logits_V, part[0]))
            found = values if part is parts[-1] else []
            reading = sample.other.read([part], [found], scored=True)
            known += reading.logprob_NT[0].tolist()
            sample.other_logits_V = reading.logits_NV[0]
        draft.other_logprobs = known

    def _find(self, chunks_NM: NDArray[np.int32], reader_index: int) -> list[Found]:
        assert self._finder is not None
        return self._finder.find(chunks_NM, [reader_index] * len(chunks_NM))

    def _read(self, samples: Sequence[Sample], reader: Reader) -> None:
        """Read the newest token of each text, with the neighbors of the chunk it completes."""
        values: list[list[Values]] = [[] for _ in samples]
        writers = [sample.writer for sample in samples]
        if self._is_complete(writers[0]):
            found = [NOTHING] * len(samples)
            if self._retrieval:
                chunks_NM = np.array([writer.tokens[-self._size :] for writer in writers], np.int32)
                found = self._find(chunks_NM, self._num_chunks(len(writers[0].tokens)))
            for sample, item in zip(samples, found, strict=True):
                sample.found = item
            values = [[item.values_KR] for item in found]
        reading = reader.read([[writer.tokens[-1]] for writer in writers], values)
        for row, sample in enumerate(samples):
            sample.logits_V = reading.logits_NV[row]
            shares = reading.share_NTK2
            sample.share_K2 = None if shares is None else shares[row, -1]
