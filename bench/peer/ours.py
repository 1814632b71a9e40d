"""Worker with this library; see ``bench.peer.worker``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.peer.step import SIZES, commands
from bench.peer.worker import serve
from bench.sample_text import WordPieces
from bench.timing import seconds
from retro import RETRO, __version__
from retro.config import Precision, TrainingConfig
from retro.device import default_device
from retro.retrieval.bert import TokenEmbedder
from retro.retrieval.embedder import ChunkEmbedder, Embedder, TextEncoder
from retro.training.optimizer import make_optimizer


def model() -> nn.Module:
    return RETRO(**SIZES)


def optimizer(made: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer(made, TrainingConfig(learning_rate=3e-4))


class Encoding:
    """Embeds the chunks of a file, as token ids like the peer or by their text like the app."""

    def __init__(self) -> None:
        self._embedders: dict[str, Embedder] = {}
        self._chunks_NM: NDArray[np.int32] = np.empty((0, 0), dtype=np.int32)

    def prepare(self, chunks: str, count: int, encoder: str) -> None:
        self._chunks_NM = np.fromfile(chunks, dtype=np.int32).reshape(count, -1)[:, :-1]
        for precision in (Precision.FLOAT32, Precision.BFLOAT16):
            loaded = TextEncoder.open(encoder, default_device(), precision)
            self._embedders[f"{precision} by tokens"] = TokenEmbedder(loaded)
            by_text = ChunkEmbedder(loaded, WordPieces(Path(encoder)))
            self._embedders[f"{precision} by text"] = by_text

    def encode(self, way: str) -> float:
        return seconds(lambda: self._embedders[way].embed(self._chunks_NM))


def all_commands() -> dict[str, Callable[..., object]]:
    encoding = Encoding()
    return {
        **commands(model, optimizer),
        "prepare_encoding": encoding.prepare,
        "encode": encoding.encode,
    }


if __name__ == "__main__":
    serve(f"retro {__version__}", all_commands())
