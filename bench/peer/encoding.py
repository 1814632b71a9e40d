"""Keys of the same chunks with the same encoder: the peer's loop against ours."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.peer.processes import started
from bench.sample_text import SAMPLE, WordPieces, whole_chunks
from bench.timing import alternate, is_quick, print_table, rounds
from retro.config.corpus import BUNDLED_ENCODER
from retro.data.samples import sample_documents
from retro.retrieval.encoder_files import find_encoder

CHUNK_SIZE = 64
NUM_CHUNKS = 2000
OUR_WAYS = ("float32 by tokens", "bfloat16 by tokens", "bfloat16 by text")


def main() -> None:
    count = 64 if is_quick() else NUM_CHUNKS
    encoder = find_encoder(None)
    with tempfile.TemporaryDirectory() as folder, started("ours", "peer") as workers:
        chunks = Path(folder) / "chunks.dat"
        write_chunks(chunks, encoder, count)
        settings = {"chunks": str(chunks), "count": count, "encoder": str(encoder)}
        for worker in workers.values():
            worker.ask("prepare_encoding", **settings)
        candidates: dict[tuple[str, str], Callable[[], float]]
        candidates = {
            ("peer", "float32 by tokens, batches of 16"): partial(workers["peer"].ask, "encode")
        }
        for way in OUR_WAYS:
            candidates["ours", way] = partial(workers["ours"].ask, "encode", way=way)
        seconds = alternate(candidates, rounds(3))
    print(f"{count} chunks of {CHUNK_SIZE} word pieces, {BUNDLED_ENCODER}\n")
    theirs = next(iter(seconds.values()))
    print_table(
        ["library", "way", "chunks/s", "to peer"],
        [
            [*name, f"{count / value:.0f}", f"{theirs / value:.2f}"]
            for name, value in seconds.items()
        ],
    )


def write_chunks(path: Path, encoder: Path, count: int) -> None:
    """Write chunks as the peer stores them: one token more than a chunk, int32."""
    tokenizer = WordPieces(encoder)
    documents = [tokenizer.encode(document.text) for document in sample_documents(SAMPLE)]
    whole_chunks(documents, count, CHUNK_SIZE + 1).tofile(path)
