"""A checkpoint leaves its run as a model that writes from its folder alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from retro.__main__ import main
from retro.artifacts import read_manifest
from retro.config.sampling import SamplingConfig
from retro.corpus.corpus import Corpus
from retro.errors import (
    ArtifactMismatchError,
    ArtifactMissingError,
    ConfigError,
    RetroError,
)
from retro.export import export_run
from retro.generation.events import ChunkEvent
from retro.generation.generate import Generator
from retro.model.origin import ModelOrigin
from retro.model.retro.model import RETRO
from retro.run import Run, create_run
from retro.training.trainer import train
from tests.conftest import TINY_MODEL, TINY_TRAINING
from tests.fakes import small_corpus
from tests.hub_server import TOKEN, HubServer, running_hub

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
PROMPT = "The climate of Arland"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_dir: Path) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = create_run(folder, corpus_dir, model=TINY_MODEL, training=TINY_TRAINING)
    train(run.path, device=CPU)
    return run


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a saved model. Tests must not change it."""
    return export_run(run.path, tmp_path_factory.mktemp("models") / "model")


def written(generator: Generator, retrieval: bool) -> list[tuple[list[int], float | None]]:
    """Return the tokens of each chunk and their mean negative log-probability."""
    config = SamplingConfig(max_new_tokens=12, seed=2)
    return [
        (event.chunk.token_ids, event.chunk.mean_nll)
        for event in generator.generate(PROMPT, config, retrieval=retrieval)
        if isinstance(event, ChunkEvent)
    ]


def test_it_writes_what_the_run_writes_when_run_and_corpus_are_gone(
    run: Run, corpus_dir: Path, tmp_path: Path
) -> None:
    copy, corpus_copy = tmp_path / "run", tmp_path / "corpus"
    shutil.copytree(run.path, copy)
    shutil.copytree(corpus_dir, corpus_copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "corpus": str(corpus_copy)}))
    expected = written(Generator.open(copy, device=CPU), retrieval=False)

    export_run(copy, tmp_path / "first")
    shutil.rmtree(copy)
    shutil.rmtree(corpus_copy)
    (tmp_path / "first").rename(tmp_path / "moved")

    generator = Generator.open(tmp_path / "moved", device=CPU, with_corpus=False)
    assert written(generator, retrieval=False) == expected


def test_with_a_corpus_it_retrieves_as_the_run_does(
    run: Run, exported: Path, corpus_dir: Path
) -> None:
    of_run = written(Generator.open(run.path, device=CPU), retrieval=True)
    generator = Generator.open(exported, corpus_dir=corpus_dir, device=CPU)

    assert written(generator, retrieval=True) == of_run
    assert written(generator, retrieval=False) != of_run


def test_the_origin_is_that_of_the_checkpoint(run: Run, exported: Path, corpus: Corpus) -> None:
    origin = RETRO.from_pretrained(exported).origin

    assert origin is not None
    assert origin.tokenizer == (run.tokenizer_dir / "tokenizer.json").read_bytes()
    assert (origin.step, origin.preset) == (8, "tiny")
    checkpoint = read_manifest(run.checkpoints_dir / "step-00000008", "checkpoint").settings
    assert origin.val_loss_on == checkpoint["val_loss_on"] is not None
    assert origin.val_loss_off == checkpoint["val_loss_off"] is not None
    assert origin.tokens_seen == checkpoint["tokens_seen"]
    assert origin.training["learning_rate"] == TINY_TRAINING["learning_rate"]
    facts = corpus.summary()
    assert origin.corpus is not None
    assert origin.corpus.fingerprint == facts.fingerprint
    assert origin.corpus.encoder == "all-MiniLM-L6-v2"
    assert origin.corpus.num_chunks == facts.num_chunks
    assert origin.corpus.exclusion == facts.exclusion


def test_the_card_names_corpus_settings_and_losses(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    model = RETRO.from_pretrained(exported)
    assert model.origin is not None

    header = card.split("---\n")[1]
    assert "library_name: retro" in header
    assert "- arxiv:2112.04426" in header
    assert f"| on | {model.origin.val_loss_on:.4f} |" in card
    assert f"| off | {model.origin.val_loss_off:.4f} |" in card
    assert "After 8 optimizer steps" in card
    assert "| name | countries |" in card
    assert "| encoder for keys | all-MiniLM-L6-v2 |" in card
    assert "| `learning_rate` | 0.003 |" in card
    assert "| `dec_depth` | 2 |" in card
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count:,} parameters; preset `tiny`." in card


def test_the_code_of_the_card_runs(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MODEL").symlink_to(exported)
    card = (exported / "README.md").read_text()

    exec(card.split("```python\n")[1].split("```")[0], {})

    assert capsys.readouterr().out.startswith("How it begins")


def test_a_chosen_step_is_exported(run: Run, tmp_path: Path) -> None:
    model = RETRO.from_pretrained(export_run(run.path, tmp_path / "early", step=4))

    assert model.origin is not None
    assert model.origin.step == 4
    with pytest.raises(ArtifactMissingError, match=r"no checkpoint of step 5; it has 4, 8"):
        export_run(run.path, tmp_path / "none", step=5)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("change", ["gone", "rebuilt", "gone, of an earlier version"])
def test_without_its_corpus_the_run_tells_what_it_noted(
    run: Run, corpus: Corpus, corpus_dir: Path, tmp_path: Path, change: str
) -> None:
    corpus_copy, copy = tmp_path / "corpus", tmp_path / "run"
    shutil.copytree(run.path, copy)
    config = json.loads((copy / "config.json").read_text())
    if change == "rebuilt":
        shutil.copytree(corpus_dir, corpus_copy)
        config["corpus_fingerprint"] = "of another build"
        config["corpus_summary"]["num_chunks"] = 7777
    elif change != "gone":
        del config["corpus_summary"]
    (copy / "config.json").write_text(json.dumps({**config, "corpus": str(corpus_copy)}))

    found = RETRO.from_pretrained(export_run(copy, tmp_path / "model")).origin

    assert found is not None
    assert found.corpus is not None
    assert (found.corpus.name, found.corpus.fingerprint) == ("corpus", config["corpus_fingerprint"])
    facts = corpus.summary()
    noted = {"gone": (facts.num_chunks, facts.encoder), "rebuilt": (7777, facts.encoder)}
    expected = noted.get(change, (None, None))
    assert (found.corpus.num_chunks, found.corpus.encoder) == expected
    unknown = "| chunks | not known |" in (tmp_path / "model" / "README.md").read_text()
    assert unknown == (expected[0] is None)


def test_the_folder_of_an_encoder_is_told_by_its_name_alone(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    config = json.loads((copy / "config.json").read_text())
    config["corpus_summary"]["encoder"] = "/home/somebody/encoders/mine"
    (copy / "config.json").write_text(json.dumps({**config, "corpus": str(tmp_path / "none")}))

    export_run(copy, tmp_path / "model")

    for name in ("README.md", "origin.json"):
        text = (tmp_path / "model" / name).read_text()
        assert "mine" in text
        assert "somebody" not in text


def test_a_run_is_not_overwritten_by_its_own_export(run: Run) -> None:
    before = (run.path / "config.json").read_bytes()

    with pytest.raises(ConfigError, match=r"belongs to something else\. Choose another folder"):
        export_run(run.path, run.path)

    assert (run.path / "config.json").read_bytes() == before
    assert not (run.path / "model.safetensors").exists()


def test_a_saved_model_never_switches_retrieval_off_by_itself(exported: Path) -> None:
    with pytest.raises(ArtifactMissingError, match=r"\(countries\)\. Add --corpus CORPUS or"):
        Generator.open(exported, device=CPU)


def test_a_step_of_a_saved_model_is_refused(exported: Path) -> None:
    with pytest.raises(ConfigError, match="step must be left out for a saved model"):
        Generator.open(exported, step=8, device=CPU, with_corpus=False)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def other_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b" ")


def other_vocabulary(folder: Path) -> None:
    model = RETRO(**{**TINY_MODEL, "num_tokens": 300, "max_seq_len": 32, "chunk_size": 8})
    model.origin = RETRO.from_pretrained(folder).origin
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (without("tokenizer.json"), ArtifactMissingError, "tokenizer.json is missing, and the"),
        (without("config.json"), ArtifactMissingError, "config.json is missing"),
        (without("model.safetensors"), ArtifactMissingError, "model.safetensors is missing"),
        (other_tokenizer, ArtifactMismatchError, "its sha256 is not the one in"),
        (other_vocabulary, ArtifactMismatchError, "has 300 tokens, but its tokenizer.json"),
    ],
)
def test_an_incomplete_or_mixed_folder_is_not_opened(
    exported: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    error: type[RetroError],
    message: str,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    damage(folder)

    with pytest.raises(error, match=message):
        Generator.open(folder, device=CPU, with_corpus=False)


@pytest.mark.parametrize("origin", [None, ModelOrigin(step=8)])
def test_a_model_saved_without_tokenizer_says_so(
    exported: Path, tmp_path: Path, origin: ModelOrigin | None
) -> None:
    model = RETRO.from_pretrained(exported)
    model.origin = origin
    model.save_pretrained(tmp_path / "bare")

    with pytest.raises(ArtifactMissingError, match=r"bare has no tokenizer\.json"):
        Generator.open(tmp_path / "bare", device=CPU, with_corpus=False)


def test_who_has_the_tokenizer_may_put_it_beside_bare_weights(
    exported: Path, tmp_path: Path
) -> None:
    model = RETRO.from_pretrained(exported)
    model.origin = None
    model.save_pretrained(tmp_path / "bare")
    shutil.copy(exported / "tokenizer.json", tmp_path / "bare")

    generator = Generator.open(tmp_path / "bare", device=CPU, with_corpus=False)
    assert written(generator, retrieval=False)


def test_a_corpus_of_another_tokenizer_is_read_as_text(exported: Path, tmp_path: Path) -> None:
    small_corpus(tmp_path / "other")

    generator = Generator.open(exported, corpus_dir=tmp_path / "other", device=CPU)

    assert "cut with another tokenizer" in generator.note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "{tmp}/none", "--out", "{tmp}/m"], "none holds no training run"),
        (["export", "{run}", "--out", "{run}"], "run/config.json must belong to a RETRO model"),
        (["export", "{run}", "--out", "{tmp}/m", "--step", "3"], "no checkpoint of step 3"),
        (["export", "{run}", "--out", "{tmp}/m", "--private"], "--private needs --push-to-hub"),
        (["export", "{run}"], "required: --out"),
        (["generate", "{model}", "--prompt", "x"], "Add --corpus CORPUS or --retrieval off"),
        (["generate", "{model}", "--prompt", "x", "--step", "8"], "step must be left out"),
        (["generate", "{tmp}", "--prompt", "x"], "holds no training run"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_1(
    run: Run,
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    filled = [part.format(tmp=tmp_path, run=run.path, model=exported) for part in arguments]

    try:
        code = main(filled)
    except SystemExit as stop:
        code = int(str(stop.code))

    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running_hub() as server:
        yield server


def on_hub(
    hub: HubServer, home: Path, *arguments: str, token: str = TOKEN, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line with ``hub`` in place of the Hugging Face Hub."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "retro", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_publishing_and_writing_from_the_hub(
    run: Run, exported: Path, tmp_path: Path, hub: HubServer
) -> None:
    out = tmp_path / "model"
    done = on_hub(
        hub, tmp_path / "home", "export", str(run.path), "--out", str(out),
        "--push-to-hub", "user/countries", "--private",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert f"published {hub.address}/user/countries/commit/" in done.stdout
    assert hub.visibility == {"user/countries": "private"}
    published = hub.repositories["user/countries"]
    assert published == {path.name: path.read_bytes() for path in exported.iterdir()}

    command = ["generate", "user/countries", "--prompt", PROMPT, "--retrieval", "off", "--json"]
    first = on_hub(hub, tmp_path / "reader", *command)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["prompt"] == PROMPT
    # What was downloaded is enough without a network.
    again = on_hub(hub, tmp_path / "reader", *command, HF_HUB_OFFLINE="1")
    assert json.loads(again.stdout) == json.loads(first.stdout)


def test_a_refusal_of_the_hub_is_one_line(run: Run, tmp_path: Path, hub: HubServer) -> None:
    done = on_hub(
        hub, tmp_path / "home", "export", str(run.path), "--out", str(tmp_path / "model"),
        "--push-to-hub", "user/model", token="hf_wrong",
    )  # fmt: skip

    assert done.returncode == 1
    assert "cannot be published as 'user/model'" in done.stderr.splitlines()[-1]
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "model" / "model.safetensors").exists()
