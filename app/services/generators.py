"""Models with their corpora, opened and ready to write.

Torch is imported when the first one is opened, not when the app starts.
"""

import gc
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.services.corpora import CorpusService
from app.services.pretrained import is_pretrained
from jobs.home import Home
from retro.errors import ArtifactMismatchError

if TYPE_CHECKING:
    from retro.generation.generate import Generator

MOST_CACHED_GENERATORS = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to be opened."""

    run_id: str
    """A run, or the name of a pretrained model."""
    step: int | None
    """Checkpoint of the run."""
    chunk_size: int
    """Tokens per chunk; a run's model has no other."""


Key = tuple[Wanted, str | None, str | None]
"""A model, and a corpus with its version."""


class Generators:
    """Opened models with their corpora; the last few are kept.

    Only the thread that writes may use it.
    """

    def __init__(self, home: Home, corpora: CorpusService) -> None:
        self._home = home
        self._corpora = corpora
        self._kept: OrderedDict[Key, Generator] = OrderedDict()
        self._shares_cores = False

    def open(self, wanted: Wanted, corpus_id: str | None) -> "Generator":
        """Return a model ready to write.

        Args:
            wanted: The model.
            corpus_id: What it retrieves from; None is nothing, and opens no corpus.
        """
        fingerprint = None if corpus_id is None else self._corpora.open(corpus_id).fingerprint
        for key, generator in self._kept.items():
            # One with a corpus can write without retrieval, too.
            fits = corpus_id is None or key[1:] == (corpus_id, fingerprint)
            if key[0] == wanted and fits:
                self._kept.move_to_end(key)
                return generator
        same = next((one for key, one in self._kept.items() if key[0] == wanted), None)
        self._kept.pop((wanted, None, None), None)
        # Before another model is loaded: the memory may not hold one more.
        while len(self._kept) >= MOST_CACHED_GENERATORS:
            self._kept.popitem(last=False)
        if same is not None and corpus_id is not None:
            made = same.with_corpus(self._corpora.open(corpus_id))
        else:
            made = self._load(wanted, corpus_id)
        self._kept[wanted, corpus_id, fingerprint] = made
        return made

    def close(self) -> None:
        """Let go of every model, and give the memory of the device back."""
        import torch  # noqa: PLC0415

        self._kept.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, wanted: Wanted, corpus_id: str | None) -> "Generator":
        from retro.device import share_cores  # noqa: PLC0415  # imports torch
        from retro.generation.generate import Generator  # noqa: PLC0415

        if not self._shares_cores:
            share_cores()
            self._shares_cores = True
        return Generator.open(
            wanted.run_id if is_pretrained(wanted.run_id) else self._home.run_dir(wanted.run_id),
            corpus_dir=None if corpus_id is None else self._home.corpus_dir(corpus_id),
            step=wanted.step,
            with_corpus=corpus_id is not None,
            chunk_size=wanted.chunk_size,
        )


def check_version(generator: "Generator", settings: Mapping[str, Any]) -> None:
    """Refuse to write from a corpus that was built again while the text waited.

    Raises:
        ArtifactMismatchError: It is not the version that was asked for.
    """
    wanted = settings.get("corpus_fingerprint")
    if wanted is None or generator.corpus is None or generator.corpus.fingerprint == wanted:
        return
    raise ArtifactMismatchError(
        f"This text was to be written from version {wanted[:12]} of the corpus, which was built "
        f"again while it waited and is now {generator.corpus.fingerprint[:12]}. Generate it again."
    )
