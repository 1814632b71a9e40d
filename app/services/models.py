"""Which model writes a text: that of a run, or a pretrained one that reads any corpus."""

from app.errors import MissingError
from app.services.corpora import CorpusService
from app.services.fit import ModelFacts, choose_step, read_model
from app.services.pretrained import is_pretrained
from jobs.errors import NotFoundError
from jobs.home import Home
from jobs.store.rows import GenerationRow
from jobs.store.store import Store
from retro.errors import ArtifactError
from retro.model.choices import kind_of
from retro.model.kinds import PRETRAINED_KIND


class Models:
    """Finds out what must be known of models before they write."""

    def __init__(self, home: Home, store: Store, corpora: CorpusService) -> None:
        self._home = home
        self._store = store
        self._corpora = corpora

    def chosen(
        self, run_id: str, corpus_id: str | None, step: int | None
    ) -> tuple[ModelFacts, int | None]:
        """Return the model of a new text, and the step of its checkpoint.

        Args:
            run_id: A run, or the name of a pretrained model.
            corpus_id: What it retrieves from.
            step: The checkpoint that is asked for; None is the newest.

        Raises:
            NotFoundError: There is no such run.
            ArtifactMissingError: The run has no checkpoint yet.
            MissingError: It has none of this step.
        """
        if is_pretrained(run_id):
            return read_model(self._home, run_id, run_id, self._chunk_size(corpus_id)), None
        name = self._store.get_run(run_id).name
        found = choose_step(self._home, run_id, name, step)
        return read_model(self._home, run_id, name), found

    def starts_trained(self, run_id: str) -> bool:
        """Return whether a model is a pretrained one, or was trained from one.

        Raises:
            NotFoundError: There is no such run.
        """
        if is_pretrained(run_id):
            return True
        return kind_of(self._store.get_run(run_id).settings.get("model") or {}) == PRETRAINED_KIND

    def of(self, text: GenerationRow) -> ModelFacts:
        """Return the model that wrote a text.

        Raises:
            MissingError: Its run was deleted.
        """
        if is_pretrained(text.run_id):
            size = text.settings.get("chunk_size")
            return read_model(self._home, text.run_id, text.run_name, size)
        try:
            self._store.get_run(text.run_id)
        except NotFoundError:
            raise MissingError(
                f"Run {text.run_name!r}, whose model wrote this text, was deleted. "
                f"Write a new text with another model."
            ) from None
        return read_model(self._home, text.run_id, text.run_name)

    def _chunk_size(self, corpus_id: str | None) -> int | None:
        """Return the tokens per chunk of a corpus, None where there is none that can be read."""
        try:
            return None if corpus_id is None else self._corpora.open(corpus_id).database.chunk_size
        except (ArtifactError, NotFoundError):
            return None
