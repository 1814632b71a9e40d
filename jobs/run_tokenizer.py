"""The tokenizer of a run, for corpora that its model is to write from."""

from dataclasses import replace

from jobs.home import Home
from jobs.store.store import Store
from retro.corpus.tokenizer import TokenizerSource, find_tokenizer
from retro.errors import ArtifactMissingError

TOKENIZER_WISHES = ("tokenizer_run_id", "new_tokenizer")
"""Settings of a build job that hold for this build alone: whose tokenizer, or a new one."""


def run_tokenizer(home: Home, store: Store, run_id: str) -> TokenizerSource:
    """Return the tokenizer and the chunk size of a run's model.

    Raises:
        NotFoundError: There is no such run.
        ArtifactMissingError: It has not started, so it has no tokenizer yet.
        ArtifactMismatchError: Its tokenizer is damaged.
    """
    run = store.get_run(run_id)
    try:
        source = find_tokenizer(home.run_dir(run_id))
    except ArtifactMissingError:
        raise ArtifactMissingError(
            f"Run {run.name!r} must have started before a corpus can take its tokenizer, and it "
            f"is {run.state.value} without one. Wait until its training has begun."
        ) from None
    return replace(source, name=f"run {run.name!r}")
