"""Worker with retro-pytorch, in its own environment; imports nothing of this library."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
from retro_pytorch import RETRO, retrieval
from retro_pytorch.optimizer import get_optimizer
from torch import nn

from bench.peer.step import SIZES, commands
from bench.peer.worker import serve
from bench.timing import seconds


def model() -> nn.Module:
    return RETRO(**SIZES)


def optimizer(made: nn.Module) -> torch.optim.Optimizer:
    return get_optimizer(made.parameters(), lr=3e-4)


class Encoding:
    """Embeds the chunks of a file with the peer's own loop and its default batch of 16."""

    def __init__(self) -> None:
        self._embed: Callable[[], object] | None = None

    def prepare(self, chunks: str, count: int, encoder: str) -> None:
        # Only encoding needs transformers, which the peer itself would load through torch.hub.
        transformers = import_module("transformers")
        loaded = transformers.AutoModel.from_pretrained(encoder, dtype=torch.float32).eval()
        retrieval.MODEL = loaded.cuda() if torch.cuda.is_available() else loaded
        self._embed = partial(
            retrieval.chunks_to_embeddings_,
            num_chunks=count,
            chunks_memmap_path=chunks,
            embeddings_memmap_path=str(Path(chunks).with_suffix(".embedded")),
            chunk_size=_chunk_size(Path(chunks), count),
            embed_dim=loaded.config.hidden_size,
        )

    def encode(self) -> float:
        assert self._embed is not None, "prepare_encoding comes first"
        return seconds(self._embed)


def _chunk_size(chunks: Path, count: int) -> int:
    return chunks.stat().st_size // (4 * count) - 1


def all_commands() -> dict[str, Callable[..., object]]:
    encoding = Encoding()
    return {
        **commands(model, optimizer),
        "prepare_encoding": encoding.prepare,
        "encode": encoding.encode,
    }


if __name__ == "__main__":
    serve(f"retro-pytorch {version('retro-pytorch')}", all_commands())
