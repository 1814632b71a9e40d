"""Saving, loading and publishing a model together with where it comes from.

A saved model is a folder of ``config.json``, ``model.safetensors``, ``README.md`` and, where
they are known, ``origin.json`` and ``tokenizer.json``.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import HfApi, ModelCard, PyTorchModelHubMixin
from torch import nn

from retro.artifacts import SPECIAL_TOKENS_FILE, TOKENIZER_FILE
from retro.errors import (
    ArtifactMismatchError,
    ArtifactMissingError,
    ConfigError,
    PublishError,
    RetroError,
    shown,
)
from retro.json_files import read_object
from retro.model.hub_names import HUB_ERRORS, check_repository, download, first_sentence
from retro.model.kinds import (
    are_saved_settings,
    kind_in,
    saved_settings,
    settings_from_dict,
    without_kind,
)
from retro.model.origin import ORIGIN_NAME, ModelOrigin
from retro.model.tensor_file import WEIGHTS_NAME
from retro.places import check_place
from retro.whole_files import STAGING_PREFIX, disk_errors, staged_folder, sync_folder, write_json

CONFIG_NAME = "config.json"
CARD_NAME = "README.md"
CARD_MARK = "<!-- Written by retro. Saving a model here again replaces this file. -->"
MODEL_FILES = (
    WEIGHTS_NAME, TOKENIZER_FILE, SPECIAL_TOKENS_FILE, ORIGIN_NAME, CARD_NAME, CONFIG_NAME
)  # fmt: skip
"""In the order in which they are put in place: a folder without settings is not opened."""

STAGING_NAME = f"{STAGING_PREFIX}model"


class HubModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="retro",
    pipeline_tag="text-generation",
    tags=["retro", "retrieval", "arxiv:2112.04426"],
):
    """A network with ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    A subclass takes the fields of its kind's settings as arguments and keeps them as ``config``.
    """

    kind: ClassVar[str]
    """Name of the kind of model; it is saved with the settings."""
    config: Any
    """Settings of its kind."""
    origin: ModelOrigin | None = None
    """Where the model comes from; saved with it and found again. None for a bare model."""

    def save_pretrained(self, save_directory: str | Path) -> None:  # type: ignore[override]  # publishing is a step of its own
        """Write the model into a folder.

        Everything is written under another name first, so a full disk leaves a model that was
        saved there before as it was. Other files in the folder stay, and so does a
        ``README.md`` that a person wrote.

        Args:
            save_directory: The folder; it is made if need be.

        Raises:
            ConfigError: The folder's ``config.json`` is not one of a RETRO model.
            DiskFullError: There is no room.
        """
        folder = check_place("The folder", save_directory, is_new=True).resolve()
        if not folder.exists():
            with staged_folder(folder) as staging:
                self._write(staging)
            return
        _refuse_foreign(folder)
        for left_by_a_killed_process in folder.glob(f"{STAGING_NAME}-*"):
            shutil.rmtree(left_by_a_killed_process, ignore_errors=True)
        with (
            disk_errors(folder),
            tempfile.TemporaryDirectory(prefix=f"{STAGING_NAME}-", dir=folder) as name,
        ):
            staged = Path(name) / "model"
            with staged_folder(staged) as staging:
                self._write(staging)
            _put_in_place(staged, folder)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        map_location: str = "cpu",
        **changes: Any,
    ) -> Self:
        """Load a saved model.

        Args:
            pretrained_model_name_or_path: A folder, or a name on the Hub.
            revision: Branch, tag or commit on the Hub; None is ``main``.
            token: Access token of the Hub; None is that of ``hf auth login``.
            cache_dir: Where downloads are kept; None is the Hub's cache.
            force_download: Download again what is in the cache.
            local_files_only: Use the cache alone.
            map_location: Where the model is to be, such as ``cuda``.
            changes: Settings that differ from the saved ones and do not
                change the weights, such as dropout.

        Returns:
            The model in evaluation mode, with its ``origin``.

        Raises:
            ArtifactMissingError: There is no such folder or name, or a file is not there.
            ArtifactMismatchError: A file is damaged or does not fit the others.
            ConfigError: A setting is unknown or outside its range.
        """
        folder = find_model(
            pretrained_model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        settings = read_saved_settings(folder)
        kind = kind_in(settings)
        if kind != cls.kind:
            raise ArtifactMismatchError(
                f"{folder.name} must hold a model of kind {cls.kind!r} to be opened as "
                f"{cls.__name__}, got {kind!r}. Open it with retro.model.open.open_saved."
            )
        values = {**without_kind(settings), **changes}
        model = cls.create(settings_from_dict(kind, values), torch.device(map_location))
        model.load_weights(folder)
        model.origin = ModelOrigin.read(folder)
        return model.eval()

    def push_to_hub(  # type: ignore[override]  # the rest follows from the model
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        commit_message: str = "Upload a RETRO model",
    ) -> str:
        """Publish the model on the Hugging Face Hub.

        Args:
            repo_id: Name there, such as ``user/model``; it is made if need be.
            private: Whether a new repository is private; None follows the account.
            token: Access token with the right to write; None is that of ``hf auth login``.
            branch: Where to put it; None is ``main``.
            create_pr: Whether to open a pull request instead of changing the branch.
            commit_message: What the change is called.

        Returns:
            Address of the change.

        Raises:
            PublishError: The name is wrong, the Hub cannot be reached, or it refuses.
            DiskFullError: There is no room to put the files together.
        """
        check_repository(repo_id)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "model"
            self.save_pretrained(folder)
            try:
                api = HfApi(token=token, library_name="retro")
                repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
                return api.upload_folder(
                    repo_id=repo,
                    folder_path=folder,
                    revision=branch,
                    create_pr=create_pr,
                    commit_message=commit_message,
                )
            except HUB_ERRORS as error:
                raise PublishError(
                    f"The model cannot be published as {shown(repo_id)} "
                    f"({first_sentence(error)}). Check the name and the network, and log in with "
                    f"`hf auth login`."
                ) from error

    def generate_model_card(self) -> ModelCard:
        """Return the model card: how to use it, losses, corpus and settings."""
        num_parameters = sum(parameter.numel() for parameter in self.parameters())
        header = self._hub_mixin_info.model_card_data.to_yaml()
        body = f"{self.card_body(num_parameters)}\n\n{CARD_MARK}\n"
        return ModelCard(f"---\n{header}\n---\n\n{body}")

    @classmethod
    def create(cls, settings: Any, device: torch.device) -> Self:
        """Return a model with initial weights on a device."""
        raise NotImplementedError

    def save_weights(self, folder: Path) -> None:
        """Write ``model.safetensors`` into a folder."""
        raise NotImplementedError

    def load_weights(self, folder: Path) -> None:
        """Read what ``save_weights`` wrote."""
        raise NotImplementedError

    def card_body(self, num_parameters: int) -> str:
        """Return the text of the model card, as Markdown."""
        raise NotImplementedError

    def _write(self, folder: Path) -> None:
        """Write every file of the model; the folder is empty."""
        self.save_weights(folder)
        if self.origin is not None:
            self.origin.write(folder)
        (folder / CARD_NAME).write_text(str(self.generate_model_card()), encoding="utf-8")
        write_json(folder / CONFIG_NAME, saved_settings(self.kind, self.config))


def is_saved_model(folder: Path) -> bool:
    """Return whether a folder is a saved model, damaged or not, rather than a run."""
    return (folder / WEIGHTS_NAME).exists() or (folder / ORIGIN_NAME).exists()


def read_saved_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a saved model, with its kind where that was written.

    Raises:
        ArtifactMissingError: There is no saved model.
        ArtifactMismatchError: Its settings are damaged.
    """
    for name in (WEIGHTS_NAME, CONFIG_NAME):
        if not (folder / name).exists():
            raise ArtifactMissingError(
                f"{folder.name} holds no saved model: {name} is missing. Save one there with "
                f"save_pretrained or `python -m retro export`."
            )
    return read_object(folder / CONFIG_NAME)


def find_model(name: str | Path, **wishes: Any) -> Path:
    """Return the folder of a saved model, downloading it if need be.

    Args:
        name: A folder, or a name on the Hub.
        wishes: As for ``retro.model.hub_names.download``.

    Raises:
        ConfigError: No model could be called so.
        ArtifactMissingError: It is neither here nor can it be downloaded.
        DiskFullError: There is no room for the download.
    """
    return download(name, MODEL_FILES, "Check the name and the network.", **wishes)


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder whose settings are of something else, such as a training run."""
    path = folder / CONFIG_NAME
    if not path.exists():
        return
    try:
        settings = read_object(path)
    except RetroError:
        settings = None
    if not are_saved_settings(settings):
        raise ConfigError(
            f"{folder.name}/{CONFIG_NAME} must belong to a RETRO model to be replaced, and it "
            f"belongs to something else. Choose another folder."
        )


def _put_in_place(staged: Path, folder: Path) -> None:
    """Replace the files of a saved model; without its settings, last, it is not opened."""
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    for name in MODEL_FILES:
        target = folder / name
        if name == CARD_NAME and target.exists() and CARD_MARK not in target.read_text("utf-8"):
            continue
        if (staged / name).exists():
            (staged / name).replace(target)
        else:
            target.unlink(missing_ok=True)
    sync_folder(folder)
