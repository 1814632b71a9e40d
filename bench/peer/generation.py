"""Tokens per second of writing, everything included: the peer's generate against ours."""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.peer.processes import KEPT, Worker, WorkerError, started
from bench.peer.step import KEPT_SHARE, NUM_NEIGHBORS, SIZES
from bench.sample_text import ENCODER_TOKENIZER
from bench.timing import is_quick, print_table, rounds
from bench.writing import write_sample
from retro.config.corpus import BUNDLED_ENCODER
from retro.retrieval.encoder_files import find_encoder

GOAL = 50
QUICK_LENGTH = 128
QUICK_CHARACTERS = 60_000
PEERS = ("peer", f"peer{KEPT}")
OURS = {"retrieval on": True, "retrieval off": False}

Measured = dict[tuple[str, str], list[float]]
"""Library and way to the seconds of whole texts."""


def main() -> None:
    sizes = {**SIZES, "max_seq_len": QUICK_LENGTH} if is_quick() else SIZES
    with tempfile.TemporaryDirectory() as folder, started("ours", *PEERS) as workers:
        prepare(workers, Path(folder), sizes)
        measured = measure(workers, rounds(3))
    report(measured, sizes["max_seq_len"])


def prepare(workers: dict[str, Worker], folder: Path, sizes: dict[str, Any]) -> None:
    """Let every worker build a corpus from the same text, and print what they have.

    Raises:
        WorkerError: A worker failed, or the text is too small for the vocabulary.
    """
    texts, encoder = folder / "texts", find_encoder(None)
    write_sample(texts, QUICK_CHARACTERS if is_quick() else None)
    tokenizer = folder / ENCODER_TOKENIZER
    tokenizer.write_text(first_word_pieces(encoder, sizes["num_tokens"]), encoding="utf-8")
    ours = workers["ours"].ask(
        "prepare_writing", texts=str(texts), corpus=str(folder / "corpus"), sizes=sizes
    )
    if ours["vocabulary"] != sizes["num_tokens"] and not is_quick():
        raise WorkerError(
            f"The sample must give {sizes['num_tokens']} tokens, got {ours['vocabulary']}."
        )
    peer: dict[str, Any] = {}
    for name in PEERS:
        peer = workers[name].ask(
            "prepare_writing",
            folder=str(folder),
            texts=str(texts),
            tokenizer=str(tokenizer),
            encoder=str(encoder),
            sizes=sizes,
        )
    print(f"- ours: {ours['chunks']} chunks of its own {ours['vocabulary']:,} byte-level tokens")
    print(
        f"- peer: {peer['chunks']} chunks of the first {sizes['num_tokens']:,} word pieces of "
        f"{BUNDLED_ENCODER}, whose ids this encoder reads"
    )
    for change in peer["changes"]:
        print(f"- peer: {change}")
    counts = (ours["parameters"], peer["parameters"])
    print("- parameters: ours {:,}, peer {:,}".format(*counts))
    print(
        f"- both: initial weights, one token given, {NUM_NEIGHBORS} neighbors, temperature 1, "
        f"drawn from {KEPT_SHARE:.0%} of the vocabulary\n"
    )


def first_word_pieces(encoder: Path, count: int) -> str:
    """Return the tokenizer of an encoder with its first word pieces only, as JSON.

    Words that are left out are spelled with those that remain, so the ids are of a smaller
    vocabulary, and the encoder still reads them. Long texts are not cut off.
    """
    settings = json.loads((encoder / ENCODER_TOKENIZER).read_text(encoding="utf-8"))
    pieces = settings["model"]["vocab"]
    settings["model"]["vocab"] = {piece: id for piece, id in pieces.items() if id < count}
    return json.dumps({**settings, "truncation": None, "padding": None})


def measure(workers: dict[str, Worker], repeats: int) -> Measured:
    """Ask for a text of each peer once, and for ours again and again around them."""
    measured: Measured = {("ours", way): [] for way in OURS}

    def ours() -> None:
        for _ in range(repeats):
            for way, retrieval in OURS.items():
                measured["ours", way].append(workers["ours"].ask("write", retrieval=retrieval))

    for name in PEERS:
        ours()
        measured[name, "retrieval on"] = [workers[name].ask("write")]
    ours()
    return measured


def report(measured: Measured, length: int) -> None:
    seconds = {name: statistics.median(values) for name, values in measured.items()}
    # Each wrote a single text, so one that was held up must not decide.
    theirs = min(seconds[name, "retrieval on"] for name in PEERS)
    print_table(
        ["library", "way", "texts", f"s for {length} tokens", "tokens/s", "to the faster peer"],
        [
            [
                *name,
                len(measured[name]),
                f"{value:.2f}",
                f"{length / value:.1f}",
                f"{theirs / value:.1f}",
            ]
            for name, value in seconds.items()
        ],
    )
    ratio = theirs / seconds["ours", "retrieval on"]
    met = "met" if ratio >= GOAL else "missed"
    print(f"\nWith retrieval, ours writes {ratio:.1f} times as fast (goal {GOAL}: {met}).")
