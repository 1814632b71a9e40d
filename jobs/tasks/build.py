"""Builds a corpus: from its documents to its index and neighbors."""

from dataclasses import asdict

from jobs.context import JobContext
from jobs.errors import JobError
from retro.config import CorpusConfig, Exclusion, config_from_dict
from retro.retrieval.corpus import build_corpus


def run(context: JobContext) -> str:
    """Build the corpus of the job, and record what it holds.

    Returns:
        What was built, for people.

    Raises:
        JobCancelled: The job should stop; finished stages are kept.
        RetroError: The documents or the settings cannot be used.
    """
    corpus_id = context.job.corpus_id
    if corpus_id is None:
        raise JobError(f"A build job must name a corpus, job {context.job.id} names none.")
    corpus = context.store.get_corpus(corpus_id)
    config = config_from_dict(CorpusConfig, {**corpus.settings, **context.job.settings})
    summary = build_corpus(context.home.corpus_dir(corpus_id), config, on_progress=context.progress)
    context.store.set_corpus_summary(corpus_id, asdict(summary), context.token)
    noun = "document" if summary.num_documents == 1 else "documents"
    message = f"{summary.num_documents:,} {noun}, {summary.num_chunks:,} chunks."
    if summary.exclusion == Exclusion.WINDOW:
        message += (
            " Neighbors may come from the same document, but not from near the chunk itself, "
            "because few documents hold most of the text."
        )
    return message
