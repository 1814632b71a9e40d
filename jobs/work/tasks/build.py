"""Builds a corpus: from its documents to its index and neighbors."""

from collections.abc import Collection
from dataclasses import asdict

from jobs.corpus_files import hold_corpus
from jobs.errors import BusyError, JobError
from jobs.run_tokenizer import TOKENIZER_WISHES, run_tokenizer
from jobs.store.corpus_locks import CorpusUse
from jobs.version_files import keep_version, remove_unneeded
from jobs.work.context import JobContext
from retro.config.checks import config_from_dict, config_to_dict
from retro.config.corpus import CorpusConfig, Exclusion
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.tokenizer import TokenizerOrigin, tokenizer_words
from retro.data.tokenizer import NOT_LOSSLESS

WAIT_S = 1.0
"""How long the lock of the corpus is waited for before a wish to stop is looked for, seconds."""


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
    settings = {**corpus.settings, **context.job.settings}
    run_id, new_tokenizer = (settings.pop(name, None) for name in TOKENIZER_WISHES)
    config = config_from_dict(CorpusConfig, settings)
    # What runs were trained on must outlive this build.
    keep_version(context.home, context.store, corpus_id)
    documents = _settled_documents(context, corpus_id)
    summary = build_corpus(
        context.home.corpus_dir(corpus_id),
        config,
        on_progress=context.progress,
        tokenizer=None if run_id is None else run_tokenizer(context.home, context.store, run_id),
        new_tokenizer=bool(new_tokenizer),
        documents=documents,
    )
    context.store.set_corpus_summary(
        corpus_id, asdict(summary), context.token, config_to_dict(config)
    )
    remove_unneeded(context.home, context.store, corpus_id)
    noun = "document" if summary.num_documents == 1 else "documents"
    message = f"{summary.num_documents:,} {noun}, {summary.num_chunks:,} chunks."
    if summary.num_reused:
        message += (
            f" {summary.num_embedded:,} chunks were embedded, {summary.num_reused:,} kept their "
            f"keys."
        )
    if summary.tokenizer_origin != TokenizerOrigin.TRAINED:
        message += f" Tokenizer {tokenizer_words(summary.to_dict())}."
    if not Corpus.open(context.home.corpus_dir(corpus_id)).tokenizer.is_lossless:
        message += f" {NOT_LOSSLESS}"
    if summary.exclusion == Exclusion.WINDOW:
        message += (
            " Neighbors may come from the same document, but not from near the chunk itself, "
            "because few documents hold most of the text."
        )
    return message + _tell_of_damage(context, corpus_id)


def _settled_documents(context: JobContext, corpus_id: str) -> Collection[str]:
    """Return the paths of the documents, whose files have followed their rows.

    From its submission to its end nobody else can add or remove documents. The corpus may be
    locked all the same, by who copies it.
    """
    while True:
        context.progress("ingest", 0, 0)
        try:
            with hold_corpus(
                context.home, context.store, corpus_id, CorpusUse.INGEST, wait_s=WAIT_S
            ):
                return context.store.document_sizes(corpus_id).keys()
        except BusyError:
            continue


def _tell_of_damage(context: JobContext, corpus_id: str) -> str:
    """Return a sentence about documents whose files are not what is recorded of them."""
    recorded = context.store.document_sums(corpus_id)
    built = Corpus.open(context.home.corpus_dir(corpus_id)).database.documents
    damaged = [
        document.path
        for document in built
        if recorded.get(document.path, document.sha256) != document.sha256
    ]
    if not damaged:
        return ""
    others = f" and {len(damaged) - 1:,} others" if len(damaged) > 1 else ""
    return (
        f" The file of {damaged[0]!r}{others} was not what had been uploaded. Upload it again and "
        f"build."
    )
