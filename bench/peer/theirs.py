"""Worker with retro-pytorch, in its own environment; imports nothing of this library."""

import os
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from retro_pytorch import RETRO, retrieval
from retro_pytorch.optimizer import get_optimizer
from retro_pytorch.training import TrainingWrapper
from torch import nn

from bench.peer.step import KEPT_SHARE, NUM_NEIGHBORS, SIZES, commands
from bench.peer.worker import serve
from bench.timing import seconds

WARM_UP_STEPS = 12
NEVER_DRAWN = -1e9
CHANGES = (
    "tokenizer and encoder are set beforehand instead of loaded through torch.hub",
    "the width of the encoder's keys is given to its function that builds the index",
    "the end token is never drawn, so that the text is whole",
)
"""What is done so that the peer runs with this encoder; nothing else of it is changed."""


def model() -> nn.Module:
    return RETRO(**SIZES)


def optimizer(made: nn.Module) -> torch.optim.Optimizer:
    return get_optimizer(made.parameters(), lr=3e-4)


class Encoding:
    """Embeds the chunks of a file with the peer's own loop and its default batch of 16."""

    def __init__(self) -> None:
        self._embed: Callable[[], object] | None = None

    def prepare(self, chunks: str, count: int, encoder: str) -> None:
        width = _set_encoder(encoder)
        self._embed = partial(
            retrieval.chunks_to_embeddings_,
            num_chunks=count,
            chunks_memmap_path=chunks,
            embeddings_memmap_path=str(Path(chunks).with_suffix(".embedded")),
            chunk_size=_chunk_size(Path(chunks), count),
            embed_dim=width,
        )

    def encode(self) -> float:
        assert self._embed is not None, "prepare_encoding comes first"
        return seconds(self._embed)


class Writing:
    """Writes whole texts with the peer's own wrapper, which builds what it retrieves from."""

    def prepare(
        self, folder: str, texts: str, tokenizer: str, encoder: str, sizes: dict[str, Any]
    ) -> dict[str, object]:
        """Make model and wrapper, and write the end of a text to warm up; return facts.

        Args:
            folder: Where the wrapper's files are to be; a second worker finds them there.
            texts: Folder of the text.
            tokenizer: File of the tokenizer, whose ids the encoder reads.
            encoder: Folder of the encoder.
            sizes: Those of the model.
        """
        os.chdir(folder)  # some of the wrapper's files are always in the working directory
        width = _set_encoder(encoder)
        retrieval.TOKENIZER = WordPieceTokenizer(tokenizer)
        # The wrapper hands the width of the keys to the function around this one, which keeps it.
        retrieval.chunks_to_index_and_embed = partial(
            retrieval.chunks_to_index_and_embed, embed_dim=width
        )
        torch.manual_seed(0)
        made = RETRO(**sizes)
        made.to_logits.bias.data[retrieval.EOS_ID] = NEVER_DRAWN
        self._length: int = sizes["max_seq_len"]
        self._wrapper = TrainingWrapper(
            retro=made.cuda() if torch.cuda.is_available() else made,
            chunk_size=sizes["chunk_size"],
            documents_path=texts,
            knn=NUM_NEIGHBORS,
        )
        shape = (1, self._length - WARM_UP_STEPS)
        self._wrapper.generate(torch.randint(retrieval.EOS_ID + 1, sizes["num_tokens"], shape))
        return {
            "chunks": self._wrapper.stats["chunks"],
            "parameters": sum(parameter.numel() for parameter in made.parameters()),
            "changes": CHANGES,
        }

    def write(self) -> float:
        """Return the seconds of a whole text after a start of one token."""
        begun = time.perf_counter()
        written = self._wrapper.generate(filter_thres=1 - KEPT_SHARE)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken = time.perf_counter() - begun
        if written.shape[1] != self._length + 1:
            raise RuntimeError(f"The text has {written.shape[1]} tokens, not {self._length + 1}.")
        return taken


class WordPieceTokenizer:
    """What the peer asks of a tokenizer of transformers, in a call that version 5 dropped."""

    def __init__(self, file: str) -> None:
        self._backend = import_module("tokenizers").Tokenizer.from_file(file)

    def batch_encode_plus(
        self,
        texts: list[str],
        add_special_tokens: bool,
        padding: bool,  # noqa: ARG002  # the peer asks for one text at a time
        return_tensors: str,  # noqa: ARG002
    ) -> SimpleNamespace:
        found = self._backend.encode_batch(texts, add_special_tokens=add_special_tokens)
        return SimpleNamespace(input_ids=torch.tensor([encoding.ids for encoding in found]))


def _set_encoder(folder: str) -> int:
    """Set the encoder that the peer would load through torch.hub; return its width."""
    transformers = import_module("transformers")  # only encoding needs it
    loaded = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    retrieval.MODEL = loaded.cuda() if torch.cuda.is_available() else loaded
    width: int = loaded.config.hidden_size
    return width


def _chunk_size(chunks: Path, count: int) -> int:
    return chunks.stat().st_size // (4 * count) - 1


def all_commands() -> dict[str, Callable[..., object]]:
    encoding, writing = Encoding(), Writing()
    return {
        **commands(model, optimizer),
        "prepare_encoding": encoding.prepare,
        "encode": encoding.encode,
        "prepare_writing": writing.prepare,
        "write": writing.write,
    }


if __name__ == "__main__":
    serve(f"retro-pytorch {version('retro-pytorch')}", all_commands())
