"""What the rest of the library needs of a language model that reads neighbors.

Trainer, evaluation, generation, checkpoints and export know this interface alone; which kinds of
model there are, only ``retro.model`` knows (``retro.model.open`` makes them). What does not exist
is marked by masks: where a mask is False, any id of the vocabulary may stand.

Shape suffixes: B rows, N texts side by side, T tokens, K neighbors per chunk, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro.model.origin import ModelOrigin
from retro.model.packing import Packing


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Retrieved values: the neighbors of chunks, each with its continuation."""

    ids: Tensor
    """Token ids, (rows, chunks, neighbors, tokens), of every complete chunk of each row; of packed
    rows (chunks, neighbors, tokens), in the order of the packing's chunks."""
    exists: Tensor
    """True where there is a token; of the same shape."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of tokens and what each is followed by."""

    tokens_BT: Tensor
    """Token ids; any behind the end of a row."""
    labels_BT: Tensor
    """The token after each."""
    counted_BT: Tensor
    """True where the label counts in the loss."""
    packing: Packing | None = None
    """Where pieces and chunks lie; None where each row holds one piece."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says after it has read some tokens, on its own device."""

    logits_NV: Tensor
    """Logits of the next token."""
    logprob_NT: Tensor
    """Log-probability in nats of each of the last tokens that were to be scored, given all before
    it, (texts, scored tokens)."""
    share_NTK2: Tensor | None
    """Share of attention that each token gave to each neighbor's text and continuation; None where
    nothing was read, or nobody asked."""


class TextCache(Protocol):
    """What a model keeps of texts side by side that it has read."""

    @property
    def num_tokens(self) -> int:
        """Tokens of each text."""
        ...

    def rows(self, rows_N: Tensor) -> "TextCache":
        """Return a cache of some of the texts, in the given order; texts may repeat."""
        ...


class TokenText(Protocol):
    """One text that is read token by token."""

    def read(self, token: int, retrieved: Retrieved | None = None) -> NDArray[np.float32]:
        """Read the next token; return the logits after it, (vocabulary,).

        Args:
            token: Its id.
            retrieved: Those of the chunk that the token completes, (1, 1, neighbors, tokens); None
                means that it has no neighbors, or is not complete.
        """
        ...

    def shares(self) -> NDArray[np.float32] | None:
        """Return the share of attention that the last token gave to each neighbor.

        Returns:
            (neighbors, 2), for a neighbor's text and its continuation; None where there was
            nothing to read.
        """
        ...


class TokenReader(Protocol):
    """Reads single tokens of one text faster than the model; its weights must not change."""

    uses_all_threads: bool
    """Whether its products are large enough for several threads."""

    def take_over(self, cache: TextCache) -> TokenText:
        """Return the one text of a cache, to be read on; the cache is not extended afterwards."""
        ...


class ReadingModel(Protocol):
    """A causal language model whose every chunk reads the neighbors of the chunk before.

    This is what generation and evaluation need of it.
    """

    starts_trained: bool
    """Whether it was pretrained: it writes sense before any training here."""

    @property
    def chunk_size(self) -> int:
        """Tokens per chunk."""
        ...

    @property
    def window(self) -> int:
        """Most tokens that the model reads at once."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model computes, and where its arguments must be."""
        ...

    def losses(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        """Return the cross-entropy of each label in nats, (rows, tokens), zero if not counted."""
        ...

    def new_cache(
        self,
        batch_size: int,
        *,
        left_padding: int = 0,
        max_tokens: int | None = None,
        keeps_shares: bool = False,
        retrieval: bool = True,
    ) -> TextCache:
        """Return an empty cache for ``predict``.

        Args:
            batch_size: Texts read side by side.
            left_padding: Tokens that the first chunk lacks at its start.
            max_tokens: Room in the cache; None means ``window``.
            keeps_shares: Whether predictions report how much attention each neighbor got.
            retrieval: Whether any chunk may read neighbors.
        """
        ...

    def predict(
        self,
        tokens_NT: Tensor,
        cache: TextCache,
        retrieved: Retrieved | None,
        *,
        num_scored: int = 0,
    ) -> Prediction:
        """Read the next tokens after those in a cache.

        Args:
            tokens_NT: Token ids.
            cache: The tokens before; it is extended.
            retrieved: Those of the chunks that end within these tokens; None means they have
                no neighbors.
            num_scored: How many of the last tokens are scored; fewer than there are, as the first
                is known to the prediction before.

        Raises:
            ShapeError: The tokens do not fit into the cache.
        """
        ...

    def token_reader(self, *, fast: bool = False) -> TokenReader | None:
        """Return what reads single tokens faster, with a copy of the weights; None for nothing.

        Args:
            fast: Whether the weights may be rounded to 8 bits.
        """
        ...


class LanguageModel(ReadingModel, Protocol):
    """A model that is trained and saved as well."""

    origin: ModelOrigin | None
    """Where the model comes from; None where nothing is known."""
    gradient_checkpointing: bool
    """Whether inner states are computed again for the gradient instead of kept."""
    tokenizer_dir: Path | None
    """Folder with the tokenizer it was trained with before; None where it takes any."""

    @property
    def network(self) -> nn.Module:
        """All weights; training changes those that require a gradient."""
        ...

    def mean_loss(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        """Return the mean cross-entropy of the labels that count, in nats, with its gradient.

        Args:
            rows: Tokens and labels.
            retrieved: What their chunks have retrieved; None is retrieval off.
        """
        ...

    def save_weights(self, folder: Path) -> None:
        """Write all that training may have changed into a checkpoint's folder.

        Raises:
            OSError: A file could not be written.
        """
        ...

    def load_weights(self, folder: Path) -> None:
        """Read what ``save_weights`` has written.

        Raises:
            ArtifactMismatchError: A file is damaged or belongs to another model.
        """
        ...

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the model and its origin into a folder; see ``HubModel.save_pretrained``."""
        ...

    def push_to_hub(self, repo_id: str, *, private: bool | None = None) -> str:
        """Publish the model; see ``HubModel.push_to_hub``."""
        ...


class ModelClass(Protocol):
    """How the models of one kind are made."""

    def settle(self, settings: Any) -> Any:
        """Return settings with everything written down that ``create`` would find out.

        Raises:
            RetroError: They name something that is not there, or cannot be used.
        """
        ...

    def create(self, settings: Any, device: torch.device) -> LanguageModel:
        """Return a model with initial weights.

        Args:
            settings: Those of the kind; see ``retro.model.kinds``.
            device: Where it is to be.
        """
        ...

    def from_pretrained(
        self, pretrained_model_name_or_path: str | Path, *, map_location: str = "cpu"
    ) -> LanguageModel:
        """Load a saved model in evaluation mode; see ``HubModel.from_pretrained``."""
        ...
