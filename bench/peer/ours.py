"""Worker with this library; see ``bench.peer.worker``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.peer.step import KEPT_SHARE, NUM_NEIGHBORS, SIZES, commands
from bench.peer.worker import serve
from bench.sample_text import WordPieces
from bench.timing import seconds
from bench.writing import open_built, sample_prompts, timed, with_whole_text
from retro import RETRO, __version__
from retro.config.corpus import CorpusConfig
from retro.config.sampling import SamplingConfig
from retro.config.training import Precision, TrainingConfig
from retro.device import default_device
from retro.generation.generate import Generator
from retro.retrieval.embedder import ChunkEmbedder, Embedder
from retro.retro_pytorch.encoder import TokenEmbedder, TokenEncoder
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
            loaded = TokenEncoder.open(encoder, default_device(), precision)
            self._embedders[f"{precision} by tokens"] = TokenEmbedder(loaded)
            by_text = ChunkEmbedder(loaded, WordPieces(Path(encoder)))
            self._embedders[f"{precision} by text"] = by_text

    def encode(self, way: str) -> float:
        return seconds(lambda: self._embedders[way].embed(self._chunks_NM))


class Writing:
    """Writes whole texts from a corpus that is built here, with the bundled encoder."""

    def prepare(self, texts: str, corpus: str, sizes: dict[str, Any]) -> dict[str, int]:
        """Build the corpus; return facts.

        Args:
            texts: Folder of the text.
            corpus: Where the corpus is to be.
            sizes: Those of the model but for the vocabulary, which is the corpus's.
        """
        config = CorpusConfig(
            chunk_size=sizes["chunk_size"],
            vocab_size=sizes["num_tokens"],
            num_neighbors=NUM_NEIGHBORS,
        )
        built = open_built(Path(texts), Path(corpus), config)
        tokenizer = built.tokenizer
        torch.manual_seed(0)
        made = RETRO(**{**sizes, "num_tokens": tokenizer.vocab_size}).to(default_device()).eval()
        self._generator = Generator(made, tokenizer, built)
        self._prompt = sample_prompts(tokenizer, [1])[1]
        sampling = SamplingConfig(
            max_new_tokens=sizes["max_seq_len"],
            temperature=1.0,
            top_k=int(tokenizer.vocab_size * KEPT_SHARE),
            top_p=1.0,
            num_neighbors=NUM_NEIGHBORS,
        )
        self._configs = {
            retrieval: with_whole_text(self._generator, self._prompt, sampling, retrieval=retrieval)
            for retrieval in (True, False)
        }
        return {
            "chunks": built.database.num_chunks,
            "vocabulary": tokenizer.vocab_size,
            "parameters": sum(parameter.numel() for parameter in made.parameters()),
        }

    def write(self, retrieval: bool) -> float:
        """Return the seconds of a whole text after a prompt of one token."""
        config = self._configs[retrieval]
        return seconds(lambda: timed(self._generator, self._prompt, config, retrieval=retrieval))


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
    serve(f"retro {__version__}", all_commands())
