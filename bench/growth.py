"""Adding one document in a hundred to a corpus that was built, against building it first."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.timing import is_quick, print_table
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.summary import CorpusSummary
from retro.data.documents import TextDocument, store_document
from retro.data.samples import sample_documents

DOCUMENTS = 100
SHARE = 0.01
CHARACTERS = 500
GOAL = 0.1


def pieces() -> Iterator[TextDocument]:
    """Yield documents of a few chunks each: the sample in parts."""
    number = 0
    for document in sample_documents("python-docs"):
        for start in range(0, len(document.text), CHARACTERS):
            text = document.text[start : start + CHARACTERS]
            if text.strip():
                # The middle of the corpus, by name, comes last in the sample.
                path = f"{number * 7919 % 10_007:05d}.txt"
                yield TextDocument(path=path, text=text, encoding="utf-8")
                number += 1


def timed_build(folder: Path) -> tuple[float, float, CorpusSummary]:
    """Return seconds, processor seconds and what was built."""
    began, began_cpu = time.perf_counter(), time.process_time()
    summary = build_corpus(folder, CorpusConfig())
    return time.perf_counter() - began, time.process_time() - began_cpu, summary


def main() -> None:
    """Build, add one document in a hundred, and build again."""
    wanted = 20 if is_quick() else DOCUMENTS
    added = max(1, round(SHARE * wanted))
    documents = [item for item, _ in zip(pieces(), range(wanted + added), strict=False)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "corpus"
        rows = []
        for name, some in (("first build", documents[:wanted]), ("1 % more", documents[wanted:])):
            for document in some:
                store_document(folder, document)
            seconds, processor, summary = timed_build(folder)
            rows.append((name, summary, seconds, processor))
    share = rows[1][3] / rows[0][3]
    print_table(
        ["build", "documents", "chunks", "embedded", "reused", "seconds", "processor seconds"],
        [
            [
                name,
                f"{summary.num_documents:,}",
                f"{summary.num_chunks:,}",
                f"{summary.num_embedded:,}",
                f"{summary.num_reused:,}",
                f"{seconds:.1f}",
                f"{processor:.1f}",
            ]
            for name, summary, seconds, processor in rows
        ],
    )
    print(f"\nThe second build took {share:.1%} of the work of the first (goal: {GOAL:.0%}).")


if __name__ == "__main__":
    main()
