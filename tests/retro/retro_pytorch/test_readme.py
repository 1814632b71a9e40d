"""Scripts written for RETRO-pytorch run after changing the import, and nothing else.

Every script in ``readme_examples`` is an example of its README with its values. The sizes
of models are scaled down by the table here, except in the tests marked ``full_size``.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_bert import WIDTH, write_prose

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_bert")]
EXAMPLES = Path(__file__).parent / "readme_examples"

MODEL = {
    "max_seq_len = 2048": "max_seq_len = 256",
    "enc_dim = 896": "enc_dim = 32",
    "dec_depth = 12": "dec_depth = 3",
    "heads = 8": "heads = 2",
    "dim_head = 64": "dim_head = 16",
}
LATER = {
    **MODEL,
    "dec_dim = 768": "dec_dim = 48",
    "enc_depth = 3": "enc_depth = 1",
    "(1, 3, 6, 9)": "(1, 3)",
}
SCALED = {
    "01_model": {
        **MODEL,
        "dec_dim = 796": "dec_dim = 48",
        "(3, 6, 9, 12)": "(2, 3)",
        "2048 + 1": "256 + 1",
        "(2, 32, 2, 128)": "(2, 4, 2, 128)",
    },
    "02_training_wrapper": LATER,
    "03_dataset": {**LATER, "seq_len = 2048": "seq_len = 256"},
}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prose(tmp_path / "text_folder", 60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPROCESS", raising=False)
    if not torch.cuda.is_available():
        for kind in (torch.Tensor, torch.nn.Module):
            monkeypatch.setattr(kind, "cuda", lambda itself: itself)


def run_example(name: str, replacements: dict[str, str]) -> dict[str, Any]:
    """Run a script and return its variables."""
    path = EXAMPLES / f"{name}.py"
    script = path.read_text()
    for old, new in replacements.items():
        assert old in script, f"{name} does not say {old!r}"
        script = script.replace(old, new)
    values: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(script, str(path), "exec"), values)
    return values


def check_batch(values: dict[str, Any], max_seq_len: int) -> None:
    assert values["seq"].shape == (2, max_seq_len + 1)
    assert values["retrieved"].shape == (2, max_seq_len // 64, 2, 128)
    assert torch.isfinite(values["loss"])
    weight = values["retro"].token_embedding.weight
    assert weight.grad is None or torch.isfinite(weight.grad).all()


def test_every_example_is_run_by_a_test() -> None:
    assert [path.stem for path in sorted(EXAMPLES.glob("*.py"))] == [
        "01_model", "02_training_wrapper", "03_dataset", "04_embed_mean", "05_embed_cls",
        "06_text_folder", "07_index", "08_neighbors",
    ]  # fmt: skip
    scripts = "".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    assert "retro_pytorch" not in scripts
    assert "from retro import RETRO, TrainingWrapper" in scripts


@pytest.mark.parametrize("name", ["01_model", "03_dataset"])
def test_models_and_datasets(name: str) -> None:
    check_batch(run_example(name, SCALED[name]), 256)


def test_the_training_wrapper(tmp_path: Path) -> None:
    values = run_example("02_training_wrapper", SCALED["02_training_wrapper"])

    check_batch(values, 256)
    assert values["sampled"].shape[0] == 1
    assert 128 < values["sampled"].shape[1] < 257
    assert torch.equal(values["sampled"][:, :128], values["prompt"])
    assert values["wrapper"].stats["docs"] == 60
    assert (tmp_path / "train.chunks.knn.dat").exists()
    assert not (tmp_path / ".tmp").exists()


@pytest.mark.parametrize("name", ["04_embed_mean", "05_embed_cls"])
def test_embeddings(name: str) -> None:
    embeds = run_example(name, {})["embeds"]

    assert embeds.shape == (2, WIDTH)
    assert embeds.dtype == torch.float32


def test_chunks_index_and_neighbors(tmp_path: Path) -> None:
    stats = run_example("06_text_folder", {})["stats"]
    index = run_example("07_index", {})
    before = (tmp_path / "train.chunks.dat").read_bytes()
    run_example("08_neighbors", {})

    assert stats["docs"] == 60
    assert stats["chunks"] >= 1000
    assert index["indices"][0, 0] == 0, "the first hit is the query itself"
    assert index["neighbor_embeddings"].shape == (1, 2, WIDTH)
    assert (tmp_path / "train.chunks.dat").read_bytes() == before
    neighbors = np.fromfile(tmp_path / "train.chunks.knn.dat", np.int32).reshape(1000, 2)
    documents = np.fromfile(tmp_path / "train.doc_ids.dat", np.int32)
    assert neighbors.min() >= 0
    assert (documents[neighbors] != documents[:1000, None]).all()


@pytest.mark.full_size
@pytest.mark.parametrize("name", ["01_model", "02_training_wrapper", "03_dataset"])
def test_full_size(name: str) -> None:
    values = run_example(name, {})

    check_batch(values, 2048)
