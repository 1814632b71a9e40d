"""Writes text chunk by chunk, with the neighbors that each chunk was written from.

When a chunk is complete it is embedded by the function that embedded the database, its
neighbors are fetched and encoded once, and the next chunk reads them. A prompt is padded on
the left so that it ends with a whole chunk: short prompts retrieve too (arXiv:2304.06762).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from retro.config.sampling import SamplingConfig
from retro.corpus.corpus import Corpus
from retro.data.tokenizer import Tokenizer
from retro.device import default_device
from retro.errors import ArtifactMissingError, InputError
from retro.generation.events import Event
from retro.generation.finder import NeighborFinder
from retro.generation.prefix import Prefix
from retro.generation.session import Session
from retro.generation.source import open_source
from retro.generation.steering import NO_STEERING, Steering
from retro.model.language_model import ReadingModel, TokenReader


class Generator:
    """A model, its tokenizer and a corpus, ready to write."""

    def __init__(self, model: ReadingModel, tokenizer: Tokenizer, corpus: Corpus | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.corpus = corpus
        self.device = model.device
        self._readers: dict[bool, TokenReader | None] = {}
        """What reads single tokens, exactly and fast, once it was made; shared by all with the
        same model."""

    def with_corpus(self, corpus: Corpus) -> "Generator":
        """Return the same model with another corpus; its weights are shared."""
        other = Generator(self.model, self.tokenizer, corpus)
        other._readers = self._readers
        return other

    @property
    def note(self) -> str:
        """What people should know about model and corpus together; empty for nothing."""
        if self.corpus is None or self.corpus.tokenizer.fingerprint == self.tokenizer.fingerprint:
            return ""
        return (
            "The corpus was cut with another tokenizer, so its chunks are read as text and cut to "
            "the model's length. A copy for this model fits better: `python -m retro build FOLDER "
            "--out CORPUS --tokenizer MODEL`."
        )

    @property
    def starts_trained(self) -> bool:
        """Whether the model is pretrained, or was trained from one that is."""
        return self.model.starts_trained

    def reader(self, *, fast: bool = False) -> TokenReader | None:
        """Return what reads single tokens faster than the model; None where nothing does."""
        if fast not in self._readers:
            self._readers[fast] = self.model.token_reader(fast=fast)
        return self._readers[fast]

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        corpus_dir: str | Path | None = None,
        step: int | None = None,
        device: torch.device | None = None,
        with_corpus: bool = True,
        chunk_size: int | None = None,
    ) -> "Generator":
        """Load a model and open the corpus it reads.

        Args:
            path: Folder of a run or of a saved model, a pretrained model of transformers, or the
                name of one: ``smollm2-135m``, which needs no network, or one of the Hub.
            corpus_dir: Folder of the corpus; None is the one the run was trained on. A
                saved model does not know where that is.
            step: Step of the run's checkpoint; None is the newest.
            device: Where to compute; None is a GPU where there is one.
            with_corpus: False leaves the corpus alone; then retrieval must stay off.
            chunk_size: Tokens per chunk of a pretrained model; None is that of the corpus. Others
                have their own.

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
            chunk_size=chunk_size,
        )
        corpus = None if source.corpus_dir is None else Corpus.open(source.corpus_dir)
        return cls(source.model, source.tokenizer, corpus)

    def generate(
        self,
        prompt: str | Prefix,
        config: SamplingConfig,
        *,
        retrieval: bool = True,
        steering: Steering = NO_STEERING,
        score_other: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        """Continue a text.

        The chunks of a prompt come first. Then, for every chunk, come its start with its
        neighbors, a token event for every token, and the chunk itself; at last the finish event,
        one for each text of ``config.num_samples``. Beyond the model's window, the older half of
        the text is forgotten. Of a prefix only an unfinished last chunk is told again, when it
        goes on.

        Args:
            prompt: Text to continue, or what was written before, with its neighbors.
            config: Settings.
            retrieval: False never touches encoder or index.
            steering: What retrieval leaves out, and neighbors given by hand.
            score_other: Report for every chunk the log-probabilities of its tokens with retrieval
                switched the other way as well.
            should_stop: Asked before every token.

        Yields:
            Events.

        Raises:
            InputError: The prompt is empty or longer than the model's window, a neighbor
                given by hand does not fit, or there is no fast way for the model.
            ArtifactMissingError: Retrieval is needed, but there is no corpus.
        """
        finder = None
        if retrieval or score_other:
            finder = self._finder(config.num_neighbors, steering)
        tokens = self._prompt_tokens(prompt) if isinstance(prompt, str) else prompt.token_ids
        reader = self.reader(fast=config.fast) if config.num_samples == 1 else None
        if config.fast and reader is None:
            raise InputError(
                "fast needs one text of a pretrained model that is built like Llama, on a CPU in "
                "float32, got something else. Leave it out."
            )
        session = Session(
            self.model,
            reader,
            self.tokenizer,
            config,
            finder=finder,
            retrieval=retrieval,
            score_other=score_other,
        )
        prefix = None if isinstance(prompt, str) else prompt
        return session.run(tokens, prefix, should_stop)

    def _finder(self, num_neighbors: int, steering: Steering) -> NeighborFinder:
        if self.corpus is None:
            raise ArtifactMissingError(
                "Retrieval needs a corpus, and none is open. Choose one or switch retrieval off."
            )
        return NeighborFinder(
            self.corpus,
            self.tokenizer,
            self.model.chunk_size,
            num_neighbors,
            steering,
            self.device,
        )

    def _prompt_tokens(self, prompt: str) -> list[int]:
        if not prompt:
            raise InputError(
                "The prompt must have at least one character, got none. Write how the text begins."
            )
        tokens = self.tokenizer.encode(prompt)
        if len(tokens) > self.model.window:
            raise InputError(
                f"The prompt must fit into the model's window of {self.model.window} tokens, "
                f"got {len(tokens)}. Shorten it, or train with a longer sequence_length."
            )
        return list(tokens)
