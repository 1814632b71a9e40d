"""Writes text chunk by chunk and tells for each chunk which neighbors it was written from.

When a chunk is complete it is embedded by the function that embedded the database, its
neighbors are fetched and encoded once, and the next chunk reads them. A prompt is padded on
the left so that it ends with a whole chunk: short prompts retrieve too (arXiv:2304.06762).

Shape suffixes: L chunks, M tokens per chunk, K neighbors, R tokens per retrieved value, V
vocabulary.
"""

import codecs
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro.config import SamplingConfig
from retro.data.tokenizer import Tokenizer
from retro.device import default_device
from retro.errors import ArtifactMismatchError, ArtifactMissingError, InputError
from retro.generation.overlap import copied_fraction, run_lengths
from retro.generation.sampling import sample
from retro.generation.source import open_source
from retro.model.decoder import DecoderCache
from retro.model.retro import RETRO
from retro.retrieval.corpus import Corpus
from retro.retrieval.retriever import Neighbor

FinishReason = Literal["length", "end", "stopped"]
Segments = list[tuple[str, int]]
"""Pieces of a text, one per token, each with the length of the run that ends there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownNeighbor:
    """A neighbor, and what it shares with the chunk that was written from it."""

    neighbor: Neighbor
    text_segments: Segments
    continuation_segments: Segments

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **asdict(self.neighbor),
            "text_segments": [list(piece) for piece in self.text_segments],
            "continuation_segments": [list(piece) for piece in self.continuation_segments],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputChunk:
    """One chunk of prompt or output."""

    index: int
    """Position in the text, counted from 0; the prompt's chunks come first."""
    token_ids: list[int]
    segments: Segments
    """One piece of text per token; the run occurs in the neighbors."""
    is_prompt: bool
    mean_nll: float | None
    """Mean negative log-probability of the tokens in nats, before temperature and filters."""
    neighbors: list[ShownNeighbor]
    """Those that conditioned this chunk: retrieved with the chunk before. The first has none."""

    @property
    def text(self) -> str:
        """Text of the chunk."""
        return "".join(text for text, _ in self.segments)

    @property
    def copied_fraction(self) -> float:
        """Share of tokens in runs of five or more that occur in the neighbors."""
        return copied_fraction([run for _, run in self.segments])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "index": self.index,
            "text": self.text,
            "token_ids": self.token_ids,
            "segments": [list(piece) for piece in self.segments],
            "is_prompt": self.is_prompt,
            "mean_nll": self.mean_nll,
            "copied_fraction": self.copied_fraction,
            "neighbors": [neighbor.to_dict() for neighbor in self.neighbors],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEvent:
    """A token was written."""

    chunk_index: int
    token_id: int
    text: str
    """May be empty while a character of several bytes is incomplete."""
    logprob: float
    """Log-probability in nats, before temperature and filters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkEvent:
    """A chunk is finished, or is the last and incomplete."""

    chunk: OutputChunk


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishEvent:
    """Nothing more will be written."""

    reason: FinishReason
    num_tokens: int
    seconds: float
    slid: bool
    """Whether the text outgrew the model's window, so that it forgot the beginning."""


Event = TokenEvent | ChunkEvent | FinishEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """Neighbors of one complete chunk."""

    shown: list[Neighbor]
    values_KR: NDArray[np.int32]


@dataclass(kw_only=True)
class _Text:
    """What has been read and written so far."""

    tokens: list[int]
    found: list[_Found | None] = field(default_factory=list)
    """Neighbors of every complete chunk; None with retrieval off."""


class Generator:
    """A model, its tokenizer and a corpus, ready to write."""

    def __init__(self, model: RETRO, tokenizer: Tokenizer, corpus: Corpus | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.corpus = corpus
        self.device = model.token_embedding.weight.device
        if corpus is None:
            return
        if corpus.tokenizer.fingerprint != tokenizer.fingerprint:
            raise ArtifactMismatchError(
                f"The model reads tokenizer {tokenizer.fingerprint[:12]}, but the corpus was cut "
                f"with {corpus.tokenizer.fingerprint[:12]}. Choose the corpus it was trained on."
            )
        if corpus.database.chunk_size != model.chunk_size:
            raise ArtifactMismatchError(
                f"The model reads chunks of {model.chunk_size} tokens, but the corpus was cut "
                f"into chunks of {corpus.database.chunk_size}. Choose a matching corpus."
            )

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        corpus_dir: str | Path | None = None,
        step: int | None = None,
        device: torch.device | None = None,
        with_corpus: bool = True,
    ) -> "Generator":
        """Load a model and open the corpus it reads.

        Args:
            path: Folder of a run or of a saved model, or a saved model's name on the Hub.
            corpus_dir: Folder of the corpus; None is the one the run was trained on. A
                saved model does not know where that is.
            step: Step of the run's checkpoint; None is the newest.
            device: Where to compute; None is a GPU where there is one.
            with_corpus: False leaves the corpus alone; then retrieval must stay off.

        Raises:
            ArtifactMissingError: Run, checkpoint, model, its tokenizer or corpus does not
                exist.
            ArtifactMismatchError: They do not fit each other, or a file is damaged.
            ConfigError: ``step`` is given for a saved model.
        """
        source = open_source(
            path,
            corpus_dir=None if corpus_dir is None else Path(corpus_dir),
            step=step,
            device=device or default_device(),
            with_corpus=with_corpus,
        )
        corpus = None if source.corpus_dir is None else Corpus.open(source.corpus_dir)
        return cls(source.model, source.tokenizer, corpus)

    @torch.inference_mode()
    def generate(
        self,
        prompt: str,
        config: SamplingConfig,
        *,
        retrieval: bool = True,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        """Continue a text.

        The chunks of the prompt come first, then a token event for every token and a chunk
        event whenever a chunk is complete, then the finish event. Beyond the model's window,
        the older half of the text is forgotten.

        Args:
            prompt: Text to continue.
            config: Settings.
            retrieval: False never touches encoder or index.
            should_stop: Asked before every token.

        Yields:
            Events.

        Raises:
            InputError: The prompt is empty or longer than the model's window.
            ArtifactMissingError: Retrieval is on, but there is no corpus.
        """
        started = time.perf_counter()
        tokens = self._prompt_tokens(prompt)
        if retrieval and self.corpus is None:
            raise ArtifactMissingError(
                "Retrieval needs a corpus, and none is open. Choose one or switch retrieval off."
            )
        num_neighbors = config.num_neighbors if retrieval else 0
        size = self.model.chunk_size
        padding = -len(tokens) % size
        text = _Text(tokens=list(tokens))
        text.found = self._search(self._prompt_chunks(tokens, padding), num_neighbors)
        cache = self.model.new_cache(1, left_padding=padding)
        logits_TV = self._read(tokens, cache, text.found)
        decoder = _Decoder(self.tokenizer)
        yield from self._prompt_events(text, padding, logits_TV, decoder)

        randomness = torch.Generator().manual_seed(config.seed)
        logits_V, slid, reason = logits_TV[-1], False, "length"
        chunk_tokens: list[int] = []
        chunk_texts: list[str] = []
        logprobs: list[float] = []
        for number in range(1, config.max_new_tokens + 1):
            if should_stop():
                reason = "stopped"
                break
            token, logprob = self._draw(logits_V, config, randomness)
            if token == self.tokenizer.eos_id:
                reason = "end"
                break
            is_last = number == config.max_new_tokens
            chunk_tokens.append(token)
            logprobs.append(logprob)
            chunk_texts.append(decoder.add(token))
            index = len(text.found)
            yield TokenEvent(
                chunk_index=index, token_id=token, text=chunk_texts[-1], logprob=logprob
            )
            text.tokens.append(token)
            found: list[_Found | None] = []
            if len(chunk_tokens) == size:
                if is_last:
                    chunk_texts[-1] += decoder.finish()
                yield self._chunk_event(text, index, chunk_tokens, chunk_texts, logprobs)
                if is_last:
                    chunk_tokens = []
                    break
                found = self._search(np.array([chunk_tokens], dtype=np.int32), num_neighbors)
                text.found += found
                chunk_tokens, chunk_texts, logprobs = [], [], []
            if is_last:
                break
            if cache.num_tokens == cache.max_tokens:
                cache, logits_V = self._slide(text, padding)
                slid = True
            else:
                logits_V = self._read([token], cache, found)[-1]
        if chunk_tokens:
            chunk_texts[-1] += decoder.finish()
            yield self._chunk_event(text, len(text.found), chunk_tokens, chunk_texts, logprobs)
        yield FinishEvent(
            reason=reason,  # type: ignore[arg-type]  # one of the three words above
            num_tokens=len(text.tokens) - len(tokens),
            seconds=time.perf_counter() - started,
            slid=slid,
        )

    def _prompt_tokens(self, prompt: str) -> list[int]:
        if not prompt:
            raise InputError(
                "The prompt must have at least one character, got none. Write how the text begins."
            )
        tokens = self.tokenizer.encode(prompt)
        if len(tokens) > self.model.seq_len:
            raise InputError(
                f"The prompt must fit into the model's window of {self.model.seq_len} tokens, "
                f"got {len(tokens)}. Shorten it, or train with a longer sequence_length."
            )
        return list(tokens)

    def _prompt_chunks(self, tokens: Sequence[int], padding: int) -> NDArray[np.int32]:
        padded = [self.tokenizer.pad_id] * padding + list(tokens)
        return np.array(padded, dtype=np.int32).reshape(-1, self.model.chunk_size)

    def _search(self, chunks_LM: NDArray[np.int32], num_neighbors: int) -> list[_Found | None]:
        """Return the neighbors of complete chunks; None for each with retrieval off."""
        if num_neighbors == 0 or self.corpus is None:
            return [None] * len(chunks_LM)
        retriever = self.corpus.retriever(self.device)
        ids_LK, distances_LK = retriever.search_chunks(chunks_LM, num_neighbors)
        values_LKR = self.corpus.database.retrieved_values(ids_LK)
        return [
            _Found(
                shown=retriever.describe(ids_LK[row], distances_LK[row]), values_KR=values_LKR[row]
            )
            for row in range(len(chunks_LM))
        ]

    def _read(
        self, tokens: Sequence[int], cache: DecoderCache, found: Sequence[_Found | None]
    ) -> Tensor:
        """Return the logits after each token, (tokens, vocabulary)."""
        values = [one.values_KR for one in found if one is not None]
        retrieved = None
        if values:
            retrieved = torch.from_numpy(np.stack(values)[None].astype(np.int64)).to(self.device)
        ids = torch.tensor([list(tokens)], device=self.device)
        return self.model.read(ids, cache, retrieved, all_logits=True)[0]

    def _slide(self, text: _Text, padding: int) -> tuple[DecoderCache, Tensor]:
        """Read the newer half of the window again, from a chunk's start on."""
        size = self.model.chunk_size
        kept_chunks = max(1, self.model.seq_len // size // 2)
        first = max(0, len(text.found) - kept_chunks)
        begin = first * size - padding
        tokens = text.tokens[max(0, begin) :]
        room = max(self.model.seq_len, (kept_chunks + 1) * size)
        cache = self.model.new_cache(1, left_padding=max(0, -begin), max_tokens=room)
        return cache, self._read(tokens, cache, text.found[first:])[-1]

    def _draw(
        self, logits_V: Tensor, config: SamplingConfig, randomness: torch.Generator
    ) -> tuple[int, float]:
        logits_V = logits_V.float().cpu()
        logits_V[self.tokenizer.pad_id] = float("-inf")
        token = sample(logits_V, config, randomness)
        return token, float(logits_V.log_softmax(-1)[token])

    def _prompt_events(
        self, text: _Text, padding: int, logits_TV: Tensor, decoder: "_Decoder"
    ) -> Iterator[ChunkEvent]:
        labels = torch.tensor(text.tokens[1:], device=self.device)
        picked = logits_TV[:-1].float().log_softmax(-1).gather(-1, labels[:, None])[:, 0]
        logprobs = [None, *picked.tolist()]
        size = self.model.chunk_size
        for index in range(len(text.found)):
            part = slice(max(0, index * size - padding), (index + 1) * size - padding)
            chunk = text.tokens[part]
            texts = [decoder.add(token) for token in chunk]
            known = [value for value in logprobs[part] if value is not None]
            yield self._chunk_event(text, index, chunk, texts, known, is_prompt=True)

    def _chunk_event(
        self,
        text: _Text,
        index: int,
        tokens: Sequence[int],
        texts: Sequence[str],
        logprobs: Sequence[float],
        *,
        is_prompt: bool = False,
    ) -> ChunkEvent:
        found = text.found[index - 1] if index > 0 else None
        shown: list[ShownNeighbor] = []
        sources: list[list[int]] = []
        if found is not None:
            # Rows without a neighbor are all padding and come last.
            for neighbor, value_R in zip(found.shown, found.values_KR, strict=False):
                sources.append([int(t) for t in value_R if t != self.tokenizer.pad_id])
                runs = run_lengths(sources[-1], [tokens])
                size = self.model.chunk_size
                num_own = int((value_R[:size] != self.tokenizer.pad_id).sum())
                pieces = list(zip(_pieces(sources[-1], self.tokenizer), runs, strict=True))
                shown.append(
                    ShownNeighbor(
                        neighbor=neighbor,
                        text_segments=pieces[:num_own],
                        continuation_segments=pieces[num_own:],
                    )
                )
        return ChunkEvent(
            chunk=OutputChunk(
                index=index,
                token_ids=list(tokens),
                segments=list(zip(texts, run_lengths(tokens, sources), strict=True)),
                is_prompt=is_prompt,
                mean_nll=-sum(logprobs) / len(logprobs) if logprobs else None,
                neighbors=shown,
            )
        )


class _Decoder:
    """Turns tokens into text as they come; a character's bytes may be spread over tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.bytes_decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """Return the characters that this token completes."""
        return self.bytes_decoder.decode(self.tokenizer.token_bytes(token))

    def finish(self) -> str:
        """Return a replacement character if the text ends inside a character."""
        return self.bytes_decoder.decode(b"", final=True)


def _pieces(tokens: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    decoder = _Decoder(tokenizer)
    pieces = [decoder.add(token) for token in tokens]
    if pieces:
        pieces[-1] += decoder.finish()
    return pieces
