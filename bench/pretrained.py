"""The bundled pretrained model: what neighbors are worth without training, and how fast it writes.

The corpus is a folder of text, cut with the model's tokenizer; windows of its held-out documents
are read with retrieval on, off, and with the neighbors of other chunks. The same tokens are
compared, so the difference of the summed bits is what retrieval gains.

    python -m bench pretrained                        # the built-in sample
    RETRO_BENCH_TEXT=FOLDER python -m bench pretrained
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from bench.timing import is_quick, print_table
from retro.config.corpus import CorpusConfig
from retro.config.sampling import SamplingConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.ingest import ingest_folder
from retro.corpus.tokenizer import find_tokenizer
from retro.data.documents import store_document
from retro.data.samples import sample_documents
from retro.data.splits import Split
from retro.generation.events import FinishEvent
from retro.generation.generate import Generator
from retro.model.language_model import ReadingModel, Retrieved, TokenRows
from retro.model.pretrained.bundled import BUNDLED_NAME, bundled_model

TEXT_VARIABLE = "RETRO_BENCH_TEXT"
CHUNKS = 6
"""Chunks of a window."""
CPU = torch.device("cpu")
SHARES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Losses:
    """Nats of the same tokens, one value per window."""

    off: NDArray[np.float64]
    on: NDArray[np.float64]
    shuffled: NDArray[np.float64]
    num_bytes: int

    def change(self, other: NDArray[np.float64]) -> str:
        """Return by how much fewer or more bits there are, with a 95 % interval by bootstrap."""
        draw = np.random.default_rng(0)
        rows = draw.integers(0, len(self.off), (2000, len(self.off)))
        changes = 100 * (other[rows].sum(1) / self.off[rows].sum(1) - 1)
        low, high = np.percentile(changes, SHARES)
        return f"{100 * (other.sum() / self.off.sum() - 1):+.1f} % [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        corpus_dir = Path(name) / "corpus"
        make_corpus(corpus_dir)
        generator = Generator.open(BUNDLED_NAME, corpus_dir=corpus_dir, device=CPU)
        assert generator.corpus is not None
        losses = measure(generator.model, generator.corpus, 3 if is_quick() else 24)
        print_losses(losses)
        print_speed(generator, 24 if is_quick() else 128)
        print_rounding(generator, 40 if is_quick() else 600)


def make_corpus(corpus_dir: Path) -> None:
    """Cut, embed and index the text for the model."""
    text = os.environ.get(TEXT_VARIABLE)
    if text:
        ingest_folder(Path(text), corpus_dir)
    else:
        for document in sample_documents("python-docs"):
            store_document(corpus_dir, document)
    build_corpus(corpus_dir, CorpusConfig(), tokenizer=find_tokenizer(bundled_model()), device=CPU)


@torch.inference_mode()
def measure(model: ReadingModel, corpus: Corpus, most: int) -> Losses:
    """Return the losses of windows of held-out documents."""
    draw = np.random.default_rng(0)
    database = corpus.database
    held_out = [row for row, one in enumerate(database.documents) if one.split is Split.VALIDATION]
    starts = [
        start
        for row in held_out
        for both in [database.document_chunks(row)]
        for start in range(both[0].start, both[1].stop - CHUNKS, CHUNKS)
    ]
    draw.shuffle(starts)
    found, num_bytes = [], 0
    for start in starts[:most]:
        ids = np.arange(start, start + CHUNKS)
        others = draw.integers(0, database.num_retrievable, CHUNKS)
        tokens = torch.from_numpy(database.chunks_CM[ids].reshape(1, -1).astype(np.int64))
        labels = torch.cat([tokens[:, 1:], tokens[:, :1]], dim=1)
        counted = torch.ones_like(tokens, dtype=torch.bool)
        counted[:, -1] = False
        rows = TokenRows(tokens, labels, counted)
        choices = (None, _retrieved(corpus, ids), _retrieved(corpus, others))
        found.append([model.losses(rows, one).sum().item() for one in choices])
        texts = (corpus.retriever().chunk_text(int(id)) for id in ids)
        num_bytes += sum(len(text.encode()) for text in texts)
    off, on, shuffled = np.array(found).T
    return Losses(off, on, shuffled, num_bytes)


def _retrieved(corpus: Corpus, ids: NDArray[np.int64]) -> Retrieved:
    values = corpus.database.retrieved_values(corpus.neighbors_CK[ids]).astype(np.int64)
    exists = values != corpus.database.pad_id
    return Retrieved(
        torch.from_numpy(np.where(exists, values, 0))[None], torch.from_numpy(exists)[None]
    )


def print_losses(losses: Losses) -> None:
    bits = losses.off.sum() / np.log(2) / losses.num_bytes
    print(f"{len(losses.off)} windows of {CHUNKS} chunks from held-out documents, untrained.\n")
    print_table(
        ["retrieval", "bits"],
        [
            ["off", f"{bits:.3f} per byte"],
            ["on", losses.change(losses.on)],
            ["with neighbors of other chunks", losses.change(losses.shuffled)],
        ],
    )


def print_speed(generator: Generator, num_tokens: int) -> None:
    """Write with transformers, without and with retrieval, in turn, and compare."""
    model = AutoModelForCausalLM.from_pretrained(bundled_model()).eval()
    prompt = "The first thing to know about this place is that"
    ids = torch.tensor([generator.tokenizer.encode(prompt)])
    found: dict[str, list[float]] = {"transformers": [], "off": [], "on": [], "fast": []}
    for _ in range(1 if is_quick() else 3):
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=2,
                min_new_tokens=num_tokens, max_new_tokens=num_tokens,
            )  # fmt: skip
        found["transformers"].append(num_tokens / (time.perf_counter() - began))
        for name, retrieval in (("off", False), ("on", True), ("fast", False)):
            config = SamplingConfig(
                max_new_tokens=num_tokens, temperature=1.0, seed=1, fast=name == "fast"
            )
            events = generator.generate(prompt, config, retrieval=retrieval)
            end = next(event for event in events if isinstance(event, FinishEvent))
            found[name].append(end.num_tokens / end.seconds)
    best = {name: float(np.median(speeds)) for name, speeds in found.items()}
    print(f"\nOne text of {num_tokens} tokens, float32, {torch.get_num_threads()} threads.\n")
    print_table(
        ["writes", "tokens/s", "ratio"],
        [
            ["generate of transformers", f"{best['transformers']:.1f}", "1"],
            ["off", f"{best['off']:.1f}", f"{best['off'] / best['transformers']:.2f}"],
            ["off, fast", f"{best['fast']:.1f}", f"{best['fast'] / best['transformers']:.2f}"],
            ["on, against off", f"{best['on']:.1f}", f"{best['on'] / best['off']:.2f}"],
        ],
    )


@torch.inference_mode()
def print_rounding(generator: Generator, num_tokens: int) -> None:
    """Read held-out text token by token, with exact weights and with those of 8 bits."""
    corpus, model = generator.corpus, generator.model
    assert corpus is not None
    held_out = [
        row for row, one in enumerate(corpus.database.documents) if one.split is Split.VALIDATION
    ]
    texts = [
        corpus.database.chunks_CM[chunks.start : chunks.stop].reshape(-1)
        for row in held_out
        for chunks in corpus.database.document_chunks(row)[1:]
    ]
    ids = np.concatenate([text[text != corpus.database.pad_id] for text in texts])[:num_tokens]
    bits = []
    for fast in (False, True):
        reader = generator.reader(fast=fast)
        assert reader is not None
        cache = model.new_cache(1, retrieval=False)
        first = torch.tensor([[int(ids[0])]])
        logits_V = model.predict(first, cache, None).logits_NV[0].numpy()
        text, total = reader.take_over(cache), 0.0
        for token in ids[1:].tolist():
            total += float(np.logaddexp.reduce(logits_V.astype(np.float64)) - logits_V[token])
            logits_V = text.read(token)
        bits.append(total)
    print(f"\nfast: {100 * (bits[1] / bits[0] - 1):+.2f} % bits of {len(ids)} held-out tokens.")
