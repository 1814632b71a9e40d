"""Training runs: start, pause, resume, stop, look into, delete."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.errors import ChangeRefusedError, MissingError
from app.services.corpora import MOST_NAME_CHARACTERS, CorpusService, check_name
from app.services.recipes import Recipe, as_command, as_python
from app.services.run_settings import DEFAULT_PRESET, RunSettings, asked_for, with_base
from app.services.run_words import check_notes, check_tags
from app.services.views import runs as views
from jobs.errors import NotFoundError
from jobs.home import Home, remove_folder
from jobs.store.queue import check_priority
from jobs.store.rows import CorpusRow, RunRow
from jobs.store.states import CorpusState, RunState
from jobs.store.store import Store
from jobs.version_files import corpus_to_train_on
from retro.checkpoints import pin_checkpoint
from retro.config.training import TrainingConfig
from retro.disk import require_free
from retro.errors import ArtifactMissingError, ConfigError, shown
from retro.model.choices import BASE
from retro.model.costs import num_parameters
from retro.model.kinds import ModelSettings
from retro.run_samples import read_samples
from retro.run_space import needed_bytes

MAY_SUCCEED = (
    RunState.QUEUED,
    RunState.STARTING,
    RunState.RUNNING,
    RunState.PAUSED,
    RunState.INTERRUPTED,
    RunState.SUCCEEDED,
)
"""States of a run that another one may follow."""
NUMBERED = re.compile(r" \(\d+\)$")


class RunService:
    """Everything about training runs."""

    def __init__(self, home: Home, store: Store, corpora: CorpusService) -> None:
        self._home = home
        self._store = store
        self._corpora = corpora
        self.settings = RunSettings(store, corpora)

    def create(
        self,
        name: str,
        corpus_id: str,
        *,
        preset: str | None = None,
        model: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        base: str | None = None,
        revision: str | None = None,
        mode: str | None = None,
        after: str | None = None,
        priority: int = 0,
        parent_id: str | None = None,
    ) -> views.Run:
        """Make a run and submit its training; it waits for a build that is under way.

        A model learns from a corpus that its own tokenizer has cut. Where the corpus was cut for
        another one, the run gets a copy, whose build is a job of its own.

        Args:
            name: For people.
            corpus_id: What it learns and retrieves from.
            preset: Name of a preset; None is the smallest.
            model: Settings of the model that override the preset.
            training: Fields of ``TrainingConfig`` that override the preset.
            base: Pretrained model to start from; None is RETRO from scratch.
            revision: Branch, tag or commit of ``base`` on the Hub.
            mode: What is trained in ``base``; None is ``lora``.
            after: Run that must have succeeded before this one starts.
            priority: A higher one starts first.
            parent_id: Run whose settings it takes over.

        Raises:
            ConfigError: A name is unknown or a value out of range.
            ArtifactMissingError: The corpus is neither built nor being built.
            NotFoundError: There is no such corpus or run.
            InvalidChangeError: The run to wait for will not succeed.
        """
        check_priority(priority)
        after_id = None if after is None else self._job_to_wait_for(after)
        cleaned = check_name(name)
        preset, model = with_base(preset, model, base=base, revision=revision, mode=mode)
        settings = asked_for(preset, model, training)
        corpus = self._store.get_corpus(corpus_id)
        model_config, training_config = self.settings.of(corpus, settings)
        if corpus.state not in (CorpusState.READY, CorpusState.BUILDING):
            raise ArtifactMissingError(
                f"Corpus {corpus.name!r} must have an index before a model can be trained on it, "
                f"and it is {corpus.state.value}. Build it first."
            )
        self._require_room(cleaned, model_config, training_config)
        corpus_id = self._corpora.for_training(corpus_id, settings["model"].get(BASE))
        job = self._store.start_run(
            cleaned,
            corpus_id,
            {**settings, "parameters": num_parameters(model_config)},
            training_config.max_steps,
            task=settings,
            parent_id=parent_id,
            after_id=after_id,
            priority=priority,
        )
        assert job.run_id is not None, "it was submitted for a run"
        return self.get(job.run_id)

    def _require_room(
        self, name: str, model: ModelSettings, training: TrainingConfig, step: int = 0
    ) -> None:
        """Refuse a run whose checkpoints would not fit on the disk."""
        needed = needed_bytes(model, training, step=step, num_kept=0)
        require_free(self._home.runs_dir, needed, f"the checkpoints of run {name!r}")

    def _job_to_wait_for(self, run_id: str) -> str:
        row = self._store.get_run(run_id)
        if row.job_id is None or row.state not in MAY_SUCCEED:
            raise ChangeRefusedError(
                f"A run can follow one that may still succeed, and run {row.name!r} is "
                f"{row.state.value}. Resume that run first, or let this one start at once."
            )
        return row.job_id

    def list_runs(self, tag: str | None = None) -> list[views.RunSummary]:
        """Return runs, the newest first, without their checkpoints and notes.

        Args:
            tag: Only runs with this tag; None is all.
        """
        return [views.RunSummary.of(row) for row in self._store.list_runs(tag)]

    def get(self, run_id: str) -> views.Run:
        """Return one run with its checkpoints."""
        return views.Run.of(
            self._store.get_run(run_id),
            checkpoints=self._store.list_checkpoints(run_id),
            alerts=self._store.list_alerts(run_id),
        )

    def samples(self, run_id: str) -> list[views.SampleText]:
        """Return what its model wrote at each measurement, from one beginning, by step."""
        self._store.get_run(run_id)
        found = read_samples(self._home.run_dir(run_id))
        return [views.SampleText.of(sample) for sample in found]

    def name_of(self, run_id: str) -> str | None:
        """Return the name of a run, None if it is gone."""
        try:
            return self._store.get_run(run_id).name
        except NotFoundError:
            return None

    def list_writable(self) -> list[views.WritableRun]:
        """Return the runs that can write, the newest first, with their checkpoints by step."""
        rows = self._store.list_runs()
        found = self._store.checkpoints_of([row.id for row in rows])
        return [
            views.WritableRun.of(row, checkpoints=found[row.id]) for row in rows if row.id in found
        ]

    def pause(self, run_id: str) -> views.Run:
        """Write a checkpoint and free the device; the run can be resumed."""
        self._store.pause_run(run_id)
        return self.get(run_id)

    def stop(self, run_id: str) -> views.Run:
        """Write a checkpoint and end the run."""
        self._store.stop_run(run_id)
        return self.get(run_id)

    def resume(self, run_id: str) -> views.Run:
        """Go on from the newest checkpoint."""
        self._store.resume_run(run_id)
        return self.get(run_id)

    def extend(self, run_id: str, max_steps: int) -> views.Run:
        """Go on from the newest checkpoint to a later last step.

        The learning rate follows its schedule to the new end, so it rises again at first.

        Raises:
            ConfigError: The number is out of range.
            InvalidChangeError: The run is at work, or has done as many steps already.
        """
        row = self._store.get_run(run_id)
        training = {**(row.settings.get("training") or {}), "max_steps": max_steps}
        configs = self.settings.of(
            self._corpus_as_trained(row),
            {
                "preset": row.settings.get("preset"),
                "model": row.settings.get("model") or {},
                "training": training,
            },
        )
        self._require_room(row.name, *configs, step=row.step)
        self._store.extend_run(run_id, max_steps)
        return self.get(run_id)

    def _corpus_as_trained(self, row: RunRow) -> CorpusRow:
        """Return the corpus of a run with settings and facts of the version it is trained on."""
        corpus = self._store.get_corpus(row.corpus_id)
        for version in self._store.list_versions(corpus.id):
            if version.number == row.corpus_version:
                return replace(corpus, settings=version.settings, summary=version.summary)
        return corpus

    def duplicate(
        self,
        run_id: str,
        *,
        name: str | None = None,
        model: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
    ) -> views.Run:
        """Start a new run with the settings of another one.

        Args:
            run_id: Whose settings it takes over.
            name: For people; None is that of the other run with a number.
            model: Fields of ``ModelConfig`` that are to be different.
            training: Fields of ``TrainingConfig`` that are to be different.
        """
        row = self._store.get_run(run_id)
        return self.create(
            self.next_name(row.name) if name is None else name,
            row.corpus_id,
            preset=row.settings.get("preset"),
            model={**(row.settings.get("model") or {}), **_object("model", model)},
            training={**(row.settings.get("training") or {}), **_object("training", training)},
            parent_id=row.id,
        )

    def next_name(self, name: str) -> str:
        """Return a name of a duplicate: with the first number that no run has yet."""
        stem = NUMBERED.sub("", name)
        taken = {row.name for row in self._store.list_runs()}
        numbers = itertools.count(2)
        return next(
            made
            for made in (f"{stem[: MOST_NAME_CHARACTERS - 8]} ({i})" for i in numbers)
            if made not in taken
        )

    def pin(self, run_id: str, step: int, *, pinned: bool) -> views.Run:
        """Keep a checkpoint when newer ones come, or let it go as others do.

        Raises:
            NotFoundError: There is no such checkpoint.
            ArtifactMissingError: Training has just deleted it.
        """
        if all(item.step != step for item in self._store.list_checkpoints(run_id)):
            raise MissingError(
                f"There is no checkpoint of step {step} in this run. Choose one of its list."
            )
        pin_checkpoint(self._home.run_dir(run_id), step, pinned)
        self._store.set_pinned(run_id, step, pinned=pinned)
        return self.get(run_id)

    def change(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
    ) -> views.Run:
        """Change what a person says about a run; None leaves a thing as it is.

        Raises:
            ConfigError: The name, a tag or the notes cannot be kept.
            NotFoundError: There is no such run.
        """
        self._store.describe_run(
            run_id,
            name=None if name is None else check_name(name),
            tags=None if tags is None else check_tags(tags),
            notes=None if notes is None else check_notes(notes),
        )
        return self.get(run_id)

    def recipe(self, run_id: str) -> views.Recipe:
        """Return the command and the Python script that train the same run without the app.

        Raises:
            NotFoundError: There is no such run.
        """
        row = self._store.get_run(run_id)
        recipe = Recipe(
            name=row.name,
            corpus_dir=corpus_to_train_on(
                self._home.run_dir(run_id), self._home.corpus_dir(row.corpus_id)
            ),
            preset=row.settings.get("preset") or DEFAULT_PRESET,
            model=row.settings.get("model") or {},
            training={**(row.settings.get("training") or {}), "max_steps": row.total_steps},
        )
        return views.Recipe(command=as_command(recipe), python=as_python(recipe))

    def delete(self, run_id: str) -> None:
        """Delete a run and free its disk; texts it wrote are kept.

        Raises:
            InvalidChangeError: It is waiting or training.
        """
        corpus_id = self._store.get_run(run_id).corpus_id
        self._store.delete_run(run_id)
        remove_folder(self._home.run_dir(run_id))
        self._corpora.remove_unneeded(corpus_id)


def _object(name: str, value: dict[str, Any] | None) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{name} must be an object, got {shown(value)}.")
    return value or {}
