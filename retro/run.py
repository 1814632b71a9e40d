"""A training run's folder: what was asked for, what came of it, and its checkpoints.

    config.json                               preset, choices, corpus; resolved at first start
    tokenizer/                                the corpus's tokenizer, so a model is usable alone
    checkpoints/step-00001000/                model.safetensors, trainer.pt, manifest.json
                                              and, where it is kept for good, pinned

Importing this module does not import torch.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retro.checkpoints import list_checkpoints
from retro.config.checks import config_from_dict, config_to_dict
from retro.config.training import TrainingConfig
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError
from retro.json_files import read_object
from retro.model.choices import check_choices, kind_of, resolve_choices
from retro.model.kinds import KIND_NAME, ModelSettings, kind_in, settings_from_dict
from retro.places import check_place
from retro.whole_files import staged_folder, write_json

CONFIG_NAME = "config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusFacts:
    """What a run must know of its corpus."""

    path: Path
    fingerprint: str
    tokenizer_dir: Path
    tokenizer_fingerprint: str
    num_tokens: int
    chunk_size: int
    num_neighbors: int
    exclusion_window: int | None
    """Tokens on either side that neighbors exclude; None where whole documents are excluded."""
    summary: dict[str, Any]
    """What the corpus holds and the name of its encoder, for people who read about the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run's folder, opened."""

    path: Path
    kind: str
    """Kind of its model."""
    preset: str
    model_choices: dict[str, Any]
    training_choices: dict[str, Any]
    corpus_path: Path
    model: ModelSettings | None
    """None until the run has started for the first time."""
    training: TrainingConfig | None
    """None until the run has started for the first time."""
    corpus_fingerprint: str | None
    tokenizer_fingerprint: str | None
    corpus_summary: dict[str, Any] | None
    """What the corpus held at the newest start; None in runs of earlier versions."""

    @property
    def checkpoints_dir(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def tokenizer_dir(self) -> Path:
        """Folder of the run's own copy of the tokenizer."""
        return self.path / "tokenizer"


def create_run(
    run_dir: Path,
    corpus_dir: Path,
    *,
    preset: str = "tiny",
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Run:
    """Write down what a new run shall be; the corpus need not be built yet.

    Args:
        run_dir: Folder of the run; it must not hold a run.
        corpus_dir: Folder of the corpus.
        preset: Name of a preset, or mode of a pretrained model.
        model: Settings of the model that override the preset; with ``base``, the name or folder
            of a pretrained model, this one is trained.
        training: Fields of ``TrainingConfig`` that override the preset.

    Raises:
        ConfigError: A setting is unknown or outside its range, or there is a run already.
    """
    check_place("The folder of the run", run_dir, is_new=True)
    corpus_dir = check_place("The folder of the corpus", corpus_dir).resolve()
    if (run_dir / CONFIG_NAME).exists():
        raise ConfigError(f"{run_dir.name} already holds a run. Choose another folder.")
    model, training = dict(model or {}), dict(training or {})
    check_choices(preset, model, training)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(
        run_dir / CONFIG_NAME,
        {
            KIND_NAME: kind_of(model),
            "preset": preset,
            "model_choices": model,
            "training_choices": training,
            "corpus": str(corpus_dir),
        },
    )
    return open_run(run_dir)


def open_run(run_dir: Path) -> Run:
    """Open a run's folder.

    Raises:
        ArtifactMissingError: There is no run here.
        ArtifactMismatchError: Its ``config.json`` is damaged.
    """
    if not (check_place("RUN", run_dir) / CONFIG_NAME).exists():
        raise ArtifactMissingError(
            f"{run_dir.name} holds no training run. Start one with `python -m retro train`."
        )
    values = read_object(run_dir / CONFIG_NAME)
    try:
        kind = kind_in(values)
        model = values.get("model")
        training = values.get("training")
        return Run(
            path=run_dir,
            kind=kind,
            preset=values["preset"],
            model_choices=values["model_choices"],
            training_choices=values["training_choices"],
            corpus_path=_corpus_path(run_dir, values["corpus"]),
            model=None if model is None else settings_from_dict(kind, model),
            training=None if training is None else config_from_dict(TrainingConfig, training),
            corpus_fingerprint=values.get("corpus_fingerprint"),
            tokenizer_fingerprint=values.get("tokenizer_fingerprint"),
            corpus_summary=values.get("corpus_summary"),
        )
    except (KeyError, TypeError) as error:
        raise ArtifactMismatchError(
            f"{run_dir.name}/{CONFIG_NAME} is damaged ({error}). Start a new run."
        ) from error


def _corpus_path(run_dir: Path, value: str) -> Path:
    try:
        return check_place("corpus", value)
    except ConfigError as error:
        raise ArtifactMismatchError(
            f"{run_dir.name}/{CONFIG_NAME} is damaged: {error} Start a new run."
        ) from error


def resolved_run(run: Run, corpus: CorpusFacts, *, max_steps: int | None = None) -> Run:
    """Return a run with all its settings fixed; nothing is written.

    Args:
        run: The run.
        corpus: Facts of its corpus.
        max_steps: New length of the run, in optimizer steps; None keeps it.

    Raises:
        ConfigError: A setting does not fit the corpus, or the run is longer already.
        ArtifactMismatchError: The corpus is not the one the run was started with.
    """
    if run.corpus_fingerprint is not None and run.corpus_fingerprint != corpus.fingerprint:
        raise ArtifactMismatchError(
            f"Run {run.path.name} was trained on corpus version {run.corpus_fingerprint[:12]}, "
            f"but {corpus.path.name} is now version {corpus.fingerprint[:12]}. "
            f"Restore the corpus, or start a new run on the changed one."
        )
    choices = dict(run.training_choices)
    if max_steps is not None:
        _refuse_shorter(run, max_steps)
        choices["max_steps"] = max_steps
    model, training = resolve_choices(
        run.preset,
        model=run.model_choices,
        training=choices,
        num_tokens=corpus.num_tokens,
        chunk_size=corpus.chunk_size,
        num_neighbors=corpus.num_neighbors,
    )
    window = corpus.exclusion_window
    if window is not None and training.sequence_length > window:
        raise ConfigError(
            f"sequence_length must be at most {window}, the tokens of the same document that the "
            f"neighbors of {corpus.path.name} exclude, got {training.sequence_length}. Shorten it, "
            f"or rebuild the corpus with a larger exclusion_window."
        )
    return replace(
        run,
        training_choices=choices,
        corpus_path=corpus.path.resolve(),
        model=model,
        training=training,
        corpus_fingerprint=corpus.fingerprint,
        tokenizer_fingerprint=corpus.tokenizer_fingerprint,
        corpus_summary=corpus.summary,
    )


def _refuse_shorter(run: Run, max_steps: int) -> None:
    """Refuse a length that the run has passed; a smaller one than planned is allowed."""
    records = list_checkpoints(run.path)
    if records and max_steps < records[-1].step:
        raise ConfigError(
            f"max_steps must be at least {records[-1].step}, the steps that run {run.path.name} "
            f"has taken, got {max_steps}. Choose more steps, or start a new run."
        )


def write_resolved(run: Run, corpus: CorpusFacts) -> None:
    """Write down the settings that ``resolved_run`` fixed, and copy the tokenizer.

    Raises:
        DiskFullError: There is no room; the settings of before are kept.
    """
    assert run.model is not None
    assert run.training is not None
    if not run.tokenizer_dir.exists():
        with staged_folder(run.tokenizer_dir) as staging:
            shutil.copytree(corpus.tokenizer_dir, staging, dirs_exist_ok=True)
    write_json(
        run.path / CONFIG_NAME,
        {
            KIND_NAME: run.kind,
            "preset": run.preset,
            "model_choices": run.model_choices,
            "training_choices": run.training_choices,
            "corpus": str(run.corpus_path),
            "model": config_to_dict(run.model),
            "training": config_to_dict(run.training),
            "corpus_fingerprint": run.corpus_fingerprint,
            "tokenizer_fingerprint": run.tokenizer_fingerprint,
            "corpus_summary": run.corpus_summary,
        },
    )
