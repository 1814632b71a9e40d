"""Corpora: make, fill with the sample, copy, build, list, delete."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.errors import ChangeRefusedError
from app.services.changes import unfinished_runs
from app.services.corpus_documents import NO_CHANGES, CorpusDocuments
from app.services.corpus_tokenizers import default_tokenizer, merged, suits
from app.services.filling import fill_from_corpus, fill_from_sample
from app.services.jobs import JobService
from app.services.versions import (
    changed_settings,
    corpus_bytes,
    current_version,
    describe_versions,
)
from app.services.views.corpora import Corpus, CorpusParts, CorpusVersion, ListedCorpus
from app.services.views.jobs import Job
from jobs.corpus_files import CorpusFiles, hold_corpus
from jobs.errors import NotFoundError
from jobs.home import Home, remove_folder
from jobs.run_tokenizer import TOKENIZER_WISHES, run_tokenizer
from jobs.store.corpus_locks import CorpusUse
from jobs.store.locks import LockKeeper
from jobs.store.rows import CorpusRow
from jobs.store.states import CorpusState
from jobs.store.store import Store
from jobs.version_files import remove_unneeded
from retro.config.checks import config_from_dict, config_to_dict
from retro.config.corpus import CorpusConfig
from retro.corpus.files import TOKENIZER_NAME
from retro.corpus.plan import estimate_build_bytes
from retro.corpus.tokenizer import TokenizerSource, is_whole, take_tokenizer
from retro.data.samples import SAMPLES
from retro.disk import require_free
from retro.errors import ArtifactError, ConfigError, InputError, shown
from retro.whole_files import staged_folder

MOST_NAME_CHARACTERS = 200


class CorpusService(CorpusDocuments):
    """Everything about corpora but uploads."""

    def __init__(self, home: Home, store: Store, jobs: JobService, encoder: str | None) -> None:
        super().__init__(home, store)
        self._jobs = jobs
        self._encoder = encoder
        self._num_bytes: dict[str, tuple[float, int]] = {}

    def create(
        self, name: str, *, sample: str | None = None, settings: dict[str, Any] | None = None
    ) -> Corpus:
        """Make a corpus, empty or filled with a built-in sample.

        Args:
            name: For people.
            sample: Name of the sample.
            settings: Fields of ``CorpusConfig``, and ``tokenizer_run_id``: the run whose
                tokenizer and chunk size the corpus takes.

        Raises:
            ConfigError: The name is empty, the sample or a setting is unknown.
            NotFoundError: There is no such run.
            ArtifactMissingError: The run has not started yet.
        """
        cleaned = check_name(name)
        if sample is not None and sample not in SAMPLES:
            known = ", ".join(repr(item) for item in SAMPLES)
            raise ConfigError(f"sample must be one of {known}, got {shown(sample)}.")
        chosen = dict(settings or {})
        source = self._source(chosen.pop("tokenizer_run_id", None))
        config = self._config(chosen if source is None else source.settings(chosen))
        with self._new_corpus(cleaned, config_to_dict(config)) as corpus_id:
            if source is not None:
                take_tokenizer(self._home.corpus_dir(corpus_id), source)
            if sample is not None:
                fill_from_sample(self._home, self._store, corpus_id, sample)
        return self.get(corpus_id)

    @contextmanager
    def _new_corpus(self, name: str, settings: dict[str, Any]) -> Iterator[str]:
        """Make a corpus, which is deleted again if the block that fills it does not end well.

        That is done at the next start where the process is killed; see ``Unrecorded``.
        """
        made = self._store.begin_corpus(name, settings)
        with LockKeeper(self._store, made.token):
            try:
                yield made.corpus.id
            except BaseException:
                self.delete(made.corpus.id)
                raise

    def _config(self, settings: dict[str, Any]) -> CorpusConfig:
        defaults = {} if self._encoder is None else {"encoder": self._encoder}
        return config_from_dict(
            CorpusConfig, merged({**defaults, "tokenizer": default_tokenizer()}, settings)
        )

    def _source(self, run_id: Any) -> TokenizerSource | None:
        if run_id is None:
            return None
        if not isinstance(run_id, str):
            raise ConfigError(f"tokenizer_run_id must be the id of a run, got {shown(run_id)}.")
        return run_tokenizer(self._home, self._store, run_id)

    def copy(self, corpus_id: str, *, name: str | None = None, run_id: str | None = None) -> Corpus:
        """Make a corpus of the same documents and submit its build.

        Args:
            corpus_id: The corpus to copy.
            name: For people; None is made from the names of corpus and run.
            run_id: The run whose model is to write from the copy: the copy takes its
                tokenizer and chunk size. None copies those of the corpus.

        Returns:
            The copy.

        Raises:
            InputError: The corpus holds no documents.
            BusyError: Its documents are being changed.
            ArtifactMissingError: The run has not started yet.
        """
        row = self._store.get_corpus(corpus_id)
        source = self._source(run_id)
        if name is None:
            name = f"{row.name}, copy" if source is None else f"{row.name}, for {source.name}"
            name = name[:MOST_NAME_CHARACTERS]
        settings = {**row.settings, **({} if source is None else source.settings({}))}
        return self._copy(
            row, name, settings, lambda made: self._give_tokenizer(row.id, made, source)
        )

    def for_training(self, corpus_id: str, base: str | None) -> str:
        """Return a corpus that a model can be trained on: this one, or a copy cut for the model.

        Args:
            corpus_id: What the model is to learn from.
            base: The pretrained model; None is RETRO from scratch.

        Returns:
            Id of the corpus; that of a copy, which is being built, where this one was cut for
            another model.
        """
        row = self._store.get_corpus(corpus_id)
        if suits(row, self._home.corpus_dir(corpus_id), base):
            return corpus_id
        settings = merged(row.settings, {"tokenizer": base})
        name = f"{row.name}, for {base or 'RETRO from scratch'}"[:MOST_NAME_CHARACTERS]
        for other in self._store.list_corpora():
            if other.name == name and other.settings == settings:
                return other.id
        return self._copy(row, name, settings, lambda _made: None).id

    def _copy(
        self, row: CorpusRow, name: str, settings: dict[str, Any], prepare: Callable[[str], None]
    ) -> Corpus:
        self._check_filled(row)
        with self._new_corpus(check_name(name), settings) as made_id:
            fill_from_corpus(self._home, self._store, row.id, made_id)
            prepare(made_id)
            self.build(made_id)
        return self.get(made_id)

    def _give_tokenizer(self, corpus_id: str, copy_id: str, source: TokenizerSource | None) -> None:
        old, new = (self._home.corpus_dir(item) for item in (corpus_id, copy_id))
        if source is not None:
            take_tokenizer(new, source)
        elif is_whole(old):
            with staged_folder(new / TOKENIZER_NAME) as staging:
                shutil.copytree(old / TOKENIZER_NAME, staging, dirs_exist_ok=True)

    def list_corpora(self) -> list[ListedCorpus]:
        """Return all corpora, the newest first."""
        return [ListedCorpus.of(row, **self._facts(row)) for row in self._store.list_corpora()]

    def get(self, corpus_id: str) -> Corpus:
        """Return one corpus with its counts and settings, and the runs that need it as it is."""
        row = self._store.get_corpus(corpus_id)
        runs = unfinished_runs(self._store, corpus_id)
        return Corpus.of(row, **self._facts(row), unfinished_runs=runs)

    def exists(self, corpus_id: str) -> bool:
        """Return whether a corpus is still there."""
        try:
            self._store.get_corpus(corpus_id)
        except NotFoundError:
            return False
        return True

    def sizes(self, corpus_id: str) -> CorpusParts:
        """Return the bytes a corpus takes on disk by part: its documents and what was built."""
        return corpus_bytes(self._home.corpus_dir(corpus_id), self.num_bytes(corpus_id))

    def versions(self, corpus_id: str) -> list[CorpusVersion]:
        """Return what the corpus was after each build that made something new, newest first."""
        return describe_versions(self._home, self._store, self._store.get_corpus(corpus_id))

    def change(
        self, corpus_id: str, *, name: str | None = None, settings: dict[str, Any] | None = None
    ) -> Corpus:
        """Rename a corpus, or change the settings of its next build; None leaves a thing as it is.

        Args:
            corpus_id: The corpus.
            name: For people.
            settings: Fields of ``CorpusConfig`` that are to be different.

        Raises:
            ConfigError: The name is empty, or a setting is unknown or out of range.
        """
        row = self._store.get_corpus(corpus_id)
        cleaned = None if name is None else check_name(name)
        config = config_from_dict(CorpusConfig, merged(row.settings, settings or {}))
        if settings is not None:
            self._store.set_corpus_settings(corpus_id, config_to_dict(config))
        if cleaned is not None:
            self._store.rename_corpus(corpus_id, cleaned)
        return self.get(corpus_id)

    def remove_unneeded(self, corpus_id: str) -> None:
        """Remove the files of versions that no run needs any more."""
        remove_unneeded(self._home, self._store, corpus_id)

    def delete(self, corpus_id: str) -> None:
        """Delete a corpus and free its disk.

        Raises:
            InvalidChangeError: A run or an unfinished job needs it, or its documents are being
                changed.
        """
        with hold_corpus(self._home, self._store, corpus_id, CorpusUse.DELETE) as files:
            self._store.delete_corpus(corpus_id, files.token)
        self.forget(corpus_id)
        remove_folder(self._home.corpus_dir(corpus_id))
        self._store.forget_deleted(corpus_id)

    def build(self, corpus_id: str, settings: dict[str, Any] | None = None) -> Job:
        """Submit the job that chunks, embeds and indexes a corpus.

        A corpus that has a tokenizer keeps it, so that its models can still write from it.

        Args:
            corpus_id: The corpus.
            settings: Settings that replace those of the corpus, by name. Two are for this
                build alone: ``tokenizer_run_id``, the run whose tokenizer and chunk size
                it takes, and ``new_tokenizer``, true to train one on the present documents.

        Raises:
            ConfigError: A setting is unknown or out of range.
            InputError: The corpus holds no documents.
            ChangeRefusedError: It is being built already.
            BusyError: Its documents are being changed.
            ArtifactMissingError: The run has not started yet.
            DiskFullError: The disk has no room for what would be built.
        """
        with hold_corpus(self._home, self._store, corpus_id, CorpusUse.BUILD) as files:
            job_id = self._submit_build(files, dict(settings or {}))
        return self._jobs.get(job_id)

    def _submit_build(self, files: CorpusFiles, chosen: dict[str, Any]) -> str:
        row = files.corpus
        if row.state is CorpusState.BUILDING:
            raise ChangeRefusedError(
                f"Corpus {row.name!r} is being built already. Wait for that job, or cancel it."
            )
        self._check_filled(row)
        wishes = {name: chosen.pop(name) for name in TOKENIZER_WISHES if name in chosen}
        source = self._source(wishes.get("tokenizer_run_id"))
        if not isinstance(wishes.get("new_tokenizer", False), bool):
            raise ConfigError(
                f"new_tokenizer must be true or false, got {shown(wishes['new_tokenizer'])}."
            )
        if source is not None:
            chosen = source.settings(chosen)
        if wishes.get("new_tokenizer"):
            chosen = {"tokenizer": None, **chosen}
        config = config_from_dict(CorpusConfig, merged(row.settings, chosen))
        folder = self._home.corpus_dir(row.id)
        needed = estimate_build_bytes(folder, config, sizes=self._store.document_sizes(row.id))
        require_free(folder, needed, f"building {row.name!r}")
        values = config_to_dict(config)
        if values != row.settings:
            self._store.set_corpus_settings(row.id, values)
        job = self._store.submit(
            "build", corpus_id=row.id, settings={**values, **wishes}, lock=files.token
        )
        return job.id

    def _check_filled(self, row: CorpusRow) -> None:
        if self._store.count_documents(row.id) == 0:
            raise InputError(
                f"Corpus {row.name!r} must hold at least one document, got none. "
                f"Upload text files first."
            )

    def num_bytes(self, corpus_id: str) -> int:
        """Return the bytes of text in a corpus; added up again when it has changed."""
        changed_at = self._store.get_corpus(corpus_id).updated_at
        known = self._num_bytes.get(corpus_id)
        if known is None or known[0] != changed_at:
            known = (changed_at, self._store.document_bytes(corpus_id))
            self._num_bytes[corpus_id] = known
        return known[1]

    def _facts(self, row: CorpusRow) -> dict[str, object]:
        """Return what a view of a corpus has beside its row."""
        version = current_version(self._store, row)
        changes = self.changes(row)
        used = row.settings if version is None else version.settings
        return {
            "num_documents": self._store.count_documents(row.id),
            "num_chunks": (row.summary or {}).get("num_chunks") or self._num_searchable(row),
            "version": None if version is None else version.number,
            "built_at": None if version is None else version.built_at,
            "has_changes": changes != NO_CHANGES,
            "changes": changes,
            "changed_settings": changed_settings(used, row.settings),
        }

    def _num_searchable(self, row: CorpusRow) -> int | None:
        """Return the chunks of a corpus that can be searched while its first build goes on."""
        if row.state is not CorpusState.BUILDING:
            return None
        try:
            return self.open(row.id).database.num_chunks
        except ArtifactError:
            return None


def check_name(name: str) -> str:
    """Return a name for a corpus or a run, without the white space around it.

    Raises:
        ConfigError: It is empty, too long, or not printable.
    """
    cleaned = " ".join(name.split())
    if not cleaned or len(cleaned) > MOST_NAME_CHARACTERS or not cleaned.isprintable():
        raise ConfigError(
            f"name must have 1 to {MOST_NAME_CHARACTERS} printable characters, got {shown(name)}."
        )
    return cleaned
