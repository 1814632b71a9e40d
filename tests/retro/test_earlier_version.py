"""What version 0.1.0 has written opens, goes on training and writes as it did.

``fixtures/earlier_version.zip`` holds a corpus, a run that was stopped at its first checkpoint
(step 3 of 6), the model exported from it, and the texts that both wrote then.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retro import RETRO
from retro.checkpoints import list_checkpoints
from retro.config.sampling import SamplingConfig
from retro.corpus.corpus import Corpus
from retro.export import export_run
from retro.generation.events import ChunkEvent
from retro.generation.generate import Generator
from retro.model.retro.network import RetroNetwork
from retro.run import Run, create_run, open_run
from retro.training.trainer import Trainer, train

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
ARCHIVE = Path(__file__).parent / "fixtures" / "earlier_version.zip"
SAMPLING = {
    "greedy": SamplingConfig(max_new_tokens=24, temperature=0),
    "drawn": SamplingConfig(max_new_tokens=24, seed=3),
}
STOPPED, LAST = 3, 6
NO_LONGER_WRITTEN = {("world_size",), ("settings", "world_size")}
"""Nothing depends on it: one process trains a run."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked folder. Tests must not change it."""
    folder = tmp_path_factory.mktemp("earlier")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """Return an unpacked folder of its own and its run, trained to the end."""
    folder = tmp_path_factory.mktemp("continued")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    result = train(folder / "run", corpus_dir=folder / "corpus", device=CPU)
    assert (result.state, result.step) == ("finished", LAST)
    return folder, open_run(folder / "run")


LATER = {
    "config.json": {("kind",), ("training", "sample_tokens")},
    "trainer.pt": {("state", "val_loss_base")},
    "manifest.json": {("settings", "training", "sample_tokens")},
}
"""Settings of runs that came later."""


def checkpoint(run: Run, step: int) -> dict[str, torch.Tensor]:
    """Return weights, moments and the state of the random generator at a step, by name."""
    folder = next(record.path for record in list_checkpoints(run.path) if record.step == step)
    trainer = torch.load(folder / "trainer.pt", weights_only=True)
    moments = {
        f"{number} {name}": moment
        for number, values in trainer["optimizer"]["state"].items()
        for name, moment in values.items()
    }
    return {**load_file(folder / "model.safetensors"), **moments, "rng": trainer["random"]["cpu"]}


def test_it_goes_on_as_a_new_run_of_the_same_settings(
    continued: tuple[Path, Run], tmp_path: Path
) -> None:
    folder, run = continued
    new = create_run(
        tmp_path / "new",
        folder / "corpus",
        preset=run.preset,
        model=run.model_choices,
        training=run.training_choices,
    )
    train(new.path, device=CPU)

    before, expected_before = checkpoint(run, STOPPED), checkpoint(new, STOPPED)
    after, expected = checkpoint(run, LAST), checkpoint(new, LAST)
    assert after.keys() == expected.keys()
    assert any((after[name] != before[name]).any() for name in before)
    # Another make of CPU adds up in another order, so there its first steps differ by a little.
    same_cpu = all(torch.equal(before[name], expected_before[name]) for name in before)
    for name, tensor in after.items():
        tolerance = 0.0 if same_cpu else 1e-5
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance)
    # Whatever the CPU, the steps that were taken are counted and nothing is drawn twice.
    assert torch.equal(after["rng"], expected["rng"])


def test_its_files_keep_their_form(earlier: Path, continued: tuple[Path, Run]) -> None:
    _, run = continued
    for name in ("config.json", f"checkpoints/step-{STOPPED:08d}/manifest.json"):
        old = json.loads((earlier / "run" / name).read_text())
        new_name = name.replace(f"{STOPPED:08d}", f"{LAST:08d}")
        new = json.loads((run.path / new_name).read_text())
        assert paths(new) - paths(old) == LATER[name.rpartition("/")[2]]
        assert paths(old) - paths(new) <= NO_LONGER_WRITTEN
    old_trainer, new_trainer = (
        torch.load(run.checkpoints_dir / f"step-{step:08d}" / "trainer.pt", weights_only=True)
        for step in (STOPPED, LAST)
    )
    assert paths(new_trainer) - paths(old_trainer) == LATER["trainer.pt"]
    assert paths(old_trainer) - paths(new_trainer) <= NO_LONGER_WRITTEN
    assert (
        old_trainer["optimizer"]["param_groups"][0]["params"]
        == (new_trainer["optimizer"]["param_groups"][0]["params"])
    )


def paths(values: object, before: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the places of all values in nested dictionaries."""
    if not isinstance(values, dict):
        return {before}
    return set().union(*(paths(value, (*before, str(name))) for name, value in values.items()))


@pytest.mark.parametrize("source", ["run", "model"])
def test_it_writes_the_same_texts(earlier: Path, source: str) -> None:
    generator = Generator.open(earlier / source, corpus_dir=earlier / "corpus", device=CPU)
    expected = json.loads((earlier / "written.json").read_text())
    found = {
        f"{name}, retrieval {mode}": list(written(generator, config, retrieval=mode == "on"))
        for mode in ("on", "off")
        for name, config in SAMPLING.items()
    }

    assert found.keys() == expected.keys()
    for text, chunks in found.items():
        for chunk, before in zip(chunks, expected[text], strict=True):
            assert chunk["token_ids"] == before["token_ids"]
            for name in ("logprobs", "other_logprobs"):
                assert chunk[name] == pytest.approx(before[name], abs=1e-4)
            assert [n[0] for n in chunk["neighbors"]] == [n[0] for n in before["neighbors"]]
            shares = [n[1] for n in chunk["neighbors"]]
            assert shares == pytest.approx([n[1] for n in before["neighbors"]], abs=1e-5)


def written(
    generator: Generator, config: SamplingConfig, *, retrieval: bool
) -> Iterator[dict[str, Any]]:
    events = generator.generate(
        "The climate of Arland", config, retrieval=retrieval, score_other=True
    )
    for event in events:
        if isinstance(event, ChunkEvent):
            chunk = event.chunk
            yield {
                "token_ids": chunk.token_ids,
                "logprobs": chunk.logprobs,
                "other_logprobs": chunk.other_logprobs,
                "neighbors": [[n.chunk_id, n.attention_share] for n in chunk.neighbors],
            }


def test_a_saved_model_is_saved_again_as_it_was(earlier: Path, tmp_path: Path) -> None:
    model = RETRO.from_pretrained(earlier / "model")
    model.save_pretrained(tmp_path / "again")
    export_run(earlier / "run", tmp_path / "exported")

    old = json.loads((earlier / "model" / "config.json").read_text())
    for name in ("again", "exported"):
        weights = (tmp_path / name / "model.safetensors").read_bytes()
        assert weights == (earlier / "model" / "model.safetensors").read_bytes()
        new = json.loads((tmp_path / name / "config.json").read_text())
        assert new == {**new, **old}


def test_resuming_makes_the_network_once(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[RetroNetwork] = []
    make = RetroNetwork.__init__

    def counted(network: RetroNetwork, **settings: Any) -> None:
        make(network, **settings)
        made.append(network)

    monkeypatch.setattr(RetroNetwork, "__init__", counted)
    trainer = Trainer(open_run(earlier / "run"), Corpus.open(earlier / "corpus"), CPU)

    assert trainer.state.step == STOPPED
    assert made == [trainer.model]
