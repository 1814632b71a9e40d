"""Built-in sample corpora, which need no network."""

from collections.abc import Iterator
from pydoc_data import topics

from retro.data.documents import TextDocument
from retro.errors import InputError, shown

SAMPLES = {"python-docs": "The language reference of Python, one document per topic."}
"""Name to description."""


def sample_documents(name: str) -> Iterator[TextDocument]:
    """Yield the documents of a sample, in the order of their paths.

    Args:
        name: One of ``SAMPLES``.

    Yields:
        The documents.

    Raises:
        InputError: There is no such sample.
    """
    check_sample(name)
    for topic, text in sorted(topics.topics.items()):
        yield TextDocument(path=f"{topic}.txt", text=text, encoding="utf-8")


def check_sample(name: str) -> None:
    """Refuse a name that is no sample.

    Raises:
        InputError: There is no such sample.
    """
    if name not in SAMPLES:
        known = ", ".join(repr(sample) for sample in SAMPLES)
        raise InputError(f"The sample must be one of {known}, got {shown(name)}.")
