"""A model comes back as it was saved, or says what is wrong; a folder is never half new."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi

from retro.config.model import ModelConfig
from retro.errors import (
    ArtifactMismatchError,
    ArtifactMissingError,
    ConfigError,
    DiskFullError,
    PublishError,
    RetroError,
)
from retro.model import hub
from retro.model.origin import CorpusOrigin, ModelOrigin
from retro.model.retro.model import RETRO
from retro.model.tensor_file import save_tensors

ROOT = Path(__file__).parents[3]
SIZES: dict[str, Any] = {
    "num_tokens": 20,
    "max_seq_len": 16,
    "chunk_size": 4,
    "enc_dim": 8,
    "enc_depth": 1,
    "dec_dim": 12,
    "dec_depth": 2,
    "dec_cross_attn_layers": (2,),
    "heads": 2,
    "dim_head": 4,
}
ORIGIN = ModelOrigin(
    tokenizer=b'{"any": "bytes"}',
    corpus=CorpusOrigin(name="the | facts\n# of <b>", num_chunks=1200, exclusion="document"),
    preset="tiny",
    training={"max_steps": 9, "precision": "float32"},
    step=9,
    tokens_seen=4321,
    val_loss_on=2.5,
    val_loss_off=2.75,
)


def make_model(seed: int = 0, **changes: Any) -> RETRO:
    torch.manual_seed(seed)
    return RETRO(**{**SIZES, **changes}).eval()


def output(model: RETRO) -> torch.Tensor:
    return model(torch.arange(1, 9)[None], torch.arange(1, 17).view(1, 2, 1, 8))


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_weights_settings_and_origin_come_back(tmp_path: Path, tie_embeddings: bool) -> None:
    model = make_model(tie_embeddings=tie_embeddings, dec_ff_dropout=0.1, use_deepnet=True)
    model.origin = ORIGIN

    model.save_pretrained(tmp_path / "model")
    loaded = RETRO.from_pretrained(tmp_path / "model")

    assert loaded.config == model.config
    assert loaded.origin == ORIGIN
    assert not loaded.training
    assert torch.equal(output(loaded), output(model))
    tied = loaded.to_logits.weight is loaded.token_embedding.weight
    assert tied == tie_embeddings


def test_a_folder_holds_these_files_and_no_others(tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path / "bare")
    model.origin = ORIGIN
    model.save_pretrained(str(tmp_path / "whole"))

    bare = {path.name for path in (tmp_path / "bare").iterdir()}
    whole = {path.name for path in (tmp_path / "whole").iterdir()}
    assert bare == {"config.json", "model.safetensors", "README.md"}
    assert whole == bare | {"origin.json", "tokenizer.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"bare", "whole"}
    settings = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert set(settings) == {"kind", *ModelConfig.__dataclass_fields__}


def test_what_a_model_was_saved_with_before_does_not_stay(tmp_path: Path) -> None:
    first, second = make_model(1), make_model(2)
    first.origin = ORIGIN
    first.save_pretrained(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")

    second.save_pretrained(tmp_path)

    loaded = RETRO.from_pretrained(tmp_path)
    assert torch.equal(output(loaded), output(second))
    assert loaded.origin is None
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "notes.txt"}
    assert "4,321" not in (tmp_path / "README.md").read_text()


def test_a_readme_that_a_person_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My project\n")

    make_model().save_pretrained(tmp_path)

    assert (tmp_path / "README.md").read_text() == "# My project\n"
    assert RETRO.from_pretrained(tmp_path)


def test_settings_of_something_else_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')

    with pytest.raises(ConfigError, match=r"config\.json must belong to a RETRO model"):
        make_model().save_pretrained(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    folder = tmp_path / "model"
    old = make_model(1)
    old.origin = ORIGIN
    if exists:
        old.save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub, "write_json", full)
    with pytest.raises(DiskFullError, match="no space left on the disk for 'model'"):
        make_model(2).save_pretrained(folder)

    after = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert folder.exists() == exists


def test_weights_that_cannot_be_written_give_the_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_tensors(make_model(), tmp_path / "none" / "model.safetensors")


def test_what_a_killed_save_left_is_cleared_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(1).save_pretrained(tmp_path)
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if self.name == "README.md":
            raise KeyboardInterrupt
        return replace(self, target)

    # Killed between the files: the weights are new, the settings are gone.
    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        make_model(2).save_pretrained(tmp_path)
    monkeypatch.undo()
    (tmp_path / ".tmp-model-x").mkdir(exist_ok=True)

    with pytest.raises(ArtifactMissingError, match=r"config\.json is missing"):
        RETRO.from_pretrained(tmp_path)
    make_model(2).save_pretrained(tmp_path)
    assert torch.equal(output(RETRO.from_pretrained(tmp_path)), output(make_model(2)))
    assert not list(tmp_path.glob(".tmp-*"))


def test_settings_that_do_not_change_the_weights_can_be_changed(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)

    loaded = RETRO.from_pretrained(tmp_path, dec_attn_dropout=0.25)

    assert loaded.config.dec_attn_dropout == 0.25
    with pytest.raises(ConfigError, match=r"'dec_atn_dropout'\. Did you mean 'dec_attn_dropout'"):
        RETRO.from_pretrained(tmp_path, dec_atn_dropout=0.25)
    with pytest.raises(ArtifactMismatchError, match=r"does not fit the model's settings"):
        RETRO.from_pretrained(tmp_path, dec_dim=16)


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(values)))

    return apply


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def scramble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (truncate, ArtifactMismatchError, r"model/model\.safetensors is damaged or .* copy the"),
        (scramble, ArtifactMismatchError, r"model/model\.safetensors is damaged or"),
        (edit("config.json", lambda v: {**v, "dec_dpth": 2}), ConfigError, "mean 'dec_depth'"),
        (edit("config.json", lambda v: {**v, "heads": 0}), ConfigError, "heads must be"),
        (edit("config.json", lambda v: {**v, "dec_depth": 1}), ConfigError, "dec_cross_attn"),
        (
            edit("config.json", lambda v: {**v, "dec_dim": 16}),
            ArtifactMismatchError,
            "does not fit",
        ),
        (edit("config.json", lambda _: [1]), ArtifactMismatchError, "hold an object, got a list"),
        (edit("origin.json", lambda _: [1]), ArtifactMismatchError, "origin.json is damaged"),
        (edit("origin.json", lambda v: {**v, "step": "9"}), ArtifactMismatchError, "step is str"),
        (
            edit("origin.json", lambda v: {**v, "corpus": {"num_chunks": 1}}),
            ArtifactMismatchError,
            "origin.json is damaged",
        ),
    ],
)
def test_damage_is_named_with_what_to_do(
    tmp_path: Path, damage: Callable[[Path], None], error: type[RetroError], message: str
) -> None:
    model = make_model()
    model.origin = ORIGIN
    model.save_pretrained(tmp_path / "model")
    damage(tmp_path / "model")

    with pytest.raises(error, match=message):
        RETRO.from_pretrained(tmp_path / "model")


def test_files_of_other_versions_are_read(tmp_path: Path) -> None:
    model = make_model()
    model.origin = ORIGIN
    model.save_pretrained(tmp_path)
    older = edit("config.json", lambda v: {k: v[k] for k in SIZES})
    newer = edit("origin.json", lambda v: {**v, "mood": "good", "corpus": {"name": "x", "age": 3}})
    older(tmp_path)
    newer(tmp_path)

    loaded = RETRO.from_pretrained(tmp_path)

    assert loaded.config == model.config
    assert loaded.origin is not None
    assert loaded.origin.corpus == CorpusOrigin(name="x")


def test_missing_folders_and_names_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match=r"holds no saved model: model\.safetensors is"):
        RETRO.from_pretrained(tmp_path)
    for name in (tmp_path / "none", "user/none", "a/b/c"):
        with pytest.raises(
            ArtifactMissingError, match="is not a folder here and cannot be had"
        ) as e:
            RETRO.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)
        assert "\n" not in str(e.value)


def cached_on_hub(model: RETRO, cache: Path) -> Path:
    """Lay a model out as the Hub's client keeps what it downloaded."""
    revision = 40 * "a"
    repository = cache / "models--user--model"
    model.save_pretrained(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return repository / "snapshots" / revision


def test_a_model_of_the_hub_is_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HfApi, "repo_info", lambda *_, **__: pytest.fail("the network was asked"))
    model = make_model()
    model.origin = ORIGIN
    snapshot = cached_on_hub(model, tmp_path)

    loaded = RETRO.from_pretrained("user/model", cache_dir=tmp_path, local_files_only=True)

    assert torch.equal(output(loaded), output(model))
    assert loaded.origin == ORIGIN
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ArtifactMissingError, match=r"model\.safetensors is missing"):
        RETRO.from_pretrained("user/model", cache_dir=tmp_path, local_files_only=True)


@pytest.mark.slow
def test_offline_mode_reads_the_cache_and_names_what_is_not_there(tmp_path: Path) -> None:
    cached_on_hub(make_model(), tmp_path / "hub")
    code = (
        "from retro import RETRO; print(RETRO.from_pretrained('user/model').config.dec_dim)\n"
        "try: RETRO.from_pretrained('user/other')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    width, refusal = done.stdout.splitlines()
    assert width == "12"
    assert refusal.startswith("ArtifactMissingError The model 'user/other' is not a folder here")


def test_a_name_that_the_hub_does_not_allow_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(PublishError, match=r"must be like user/model, got 'a/b/c' \(Repo id"):
        make_model().push_to_hub("a/b/c")


def test_the_card_of_a_bare_model_says_what_is_not_known() -> None:
    card = make_model().generate_model_card()

    assert card.data.library_name == "retro"
    assert card.data.pipeline_tag == "text-generation"
    assert {"retro", "arxiv:2112.04426", "model_hub_mixin"} <= set(card.data.tags or [])
    assert "saved without a tokenizer" in card.text
    assert "not saved with it" in card.text
    assert "| `chunk_size` | 4 |" in card.text


def test_the_code_of_a_bare_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model()
    model.save_pretrained(tmp_path / "MODEL")
    monkeypatch.chdir(tmp_path)

    exec(str(model.generate_model_card()).split("```python\n")[1].split("```")[0], {})

    assert capsys.readouterr().out.startswith("tensor([[")


def test_a_name_cannot_break_the_card() -> None:
    model = make_model()
    model.origin = ORIGIN

    text = model.generate_model_card().text

    assert "| name | the \\| facts # of &lt;b> |" in text
    assert not any(line.startswith("# of") for line in text.splitlines())


def test_losses_that_were_not_measured_are_not_invented() -> None:
    model = make_model()
    model.origin = ModelOrigin(step=3)

    assert "The validation loss was not measured at this step." in str(model.generate_model_card())
