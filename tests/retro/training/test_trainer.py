"""Training learns, stops and goes on without a difference, and keeps what is good."""

import copy
import shutil
from pathlib import Path

import pytest
import torch

from retro import RETRO
from retro.checkpoints import list_checkpoints
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.data.documents import TextDocument, store_document
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError, TrainingError
from retro.run import Run, create_run, open_run, resolved_run
from retro.training.compilation import COMPILERS, compile_network
from retro.training.trainer import (
    SilentListener,
    Trainer,
    corpus_facts,
    train,
)
from tests.conftest import TINY_MODEL, TINY_TRAINING
from tests.fakes import hash_embedder, small_corpus
from tests.retro.training.runs import CPU, Recorder, StopAfter, go, make_run

pytestmark = pytest.mark.slow


def weights(run: Run, step: int) -> bytes:
    folder = run.checkpoints_dir / f"step-{step:08d}"
    return (folder / "model.safetensors").read_bytes()


def test_a_small_corpus_is_learned_by_heart(tmp_path: Path, corpus_dir: Path) -> None:
    recorder = Recorder()
    run = create_run(
        tmp_path / "run",
        corpus_dir,
        model=TINY_MODEL,
        training={
            **TINY_TRAINING,
            "max_steps": 140,
            "eval_every": 10,
            "learning_rate": 1e-2,
            "checkpoint_every": 140,
        },
    )

    go(run, recorder)

    # The first checkpoint does not wait for the interval: one can write with it.
    assert recorder.steps("saved") == [25, 140]
    losses = [loss for _, loss in recorder.values("train_loss")]
    assert losses[0] > 5
    assert losses[-1] < 0.5
    validation = [loss for _, loss in recorder.values("val_loss_on")]
    assert min(validation) < validation[0] - 0.5


def test_the_neighbors_are_used(tmp_path: Path, corpus_dir: Path) -> None:
    """Wording is shared between documents, so their neighbors must help and others' not."""
    recorder = Recorder()
    go(make_run(tmp_path / "run", corpus_dir, max_steps=60, learning_rate=1e-2), recorder)

    _, last = recorder.metrics[-1]
    assert last["val_loss_on"] < last["val_loss_off"]
    assert last["val_loss_on"] < last["val_loss_shuffled"]


def test_stopping_and_going_on_equals_never_having_stopped(
    tmp_path: Path, corpus_dir: Path
) -> None:
    # 13 steps of 8 sequences pass through more than two epochs.
    settings = {"max_steps": 13, "accumulation": 2, "keep_checkpoints": 99}
    straight, broken = Recorder(), Recorder()
    first = make_run(tmp_path / "straight", corpus_dir, **settings)
    second = make_run(tmp_path / "broken", corpus_dir, **settings)

    go(first, straight)
    # should_stop is asked once before the first step, then after each.
    results = [go(second, broken, StopAfter(n)) for n in (3, 0, 5)] + [go(second, broken)]

    assert [result.state for result in results] == ["stopped", "stopped", "stopped", "finished"]
    assert [result.step for result in results] == [3, 3, 8, 13]
    assert broken.steps("resumed") == [0, 3, 3, 8]
    assert weights(first, 13) == weights(second, 13)
    assert straight.values("train_loss") == broken.values("train_loss")
    assert straight.values("val_loss_on") == broken.values("val_loss_on")
    assert len(straight.values("train_loss")) == 13
    files = [run.checkpoints_dir / "step-00000013" / "trainer.pt" for run in (first, second)]
    states = [torch.load(file, weights_only=True) for file in files]
    for one, other in zip(
        states[0]["optimizer"]["state"].values(),
        states[1]["optimizer"]["state"].values(),
        strict=True,
    ):
        assert torch.equal(one["exp_avg"], other["exp_avg"])
        assert torch.equal(one["exp_avg_sq"], other["exp_avg_sq"])
    assert states[0]["state"] == states[1]["state"]


def test_a_finished_run_can_be_extended(tmp_path: Path, corpus_dir: Path) -> None:
    run = make_run(tmp_path / "run", corpus_dir, max_steps=4)
    assert go(run).step == 4

    again = go(run)
    longer = train(run.path, device=CPU, max_steps=6)

    assert (again.state, again.step) == ("finished", 4)
    assert (longer.state, longer.step) == ("finished", 6)
    assert open_run(run.path).training_choices["max_steps"] == 6


def test_what_a_killed_process_left_half_written_is_ignored(
    tmp_path: Path, corpus_dir: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_dir)
    go(run, stop=StopAfter(4))
    half = run.checkpoints_dir / ".tmp-step-00000008-dead"
    shutil.copytree(run.checkpoints_dir / "step-00000004", half)
    recorder = Recorder()

    go(run, recorder)

    assert recorder.steps("resumed") == [4]
    assert not half.exists()


def test_the_newest_and_the_best_checkpoints_are_kept(tmp_path: Path, corpus_dir: Path) -> None:
    recorder = Recorder()
    run = make_run(
        tmp_path / "run",
        corpus_dir,
        max_steps=6,
        checkpoint_every=1,
        eval_every=1,
        keep_checkpoints=2,
    )

    go(run, recorder)

    losses = dict(recorder.values("val_loss_on"))
    kept = [record.step for record in list_checkpoints(run.path)]
    best = min(losses, key=lambda step: losses[step])
    assert kept == sorted({best, 5, 6})
    assert recorder.steps("saved") == [1, 2, 3, 4, 5, 6]
    assert sorted(recorder.steps("deleted") + kept) == recorder.steps("saved")
    record = next(r for r in list_checkpoints(run.path) if r.is_best)
    assert (record.step, record.val_loss_on) == (best, losses[best])


def test_a_loss_that_is_no_number_ends_the_run_before_it_harms_a_checkpoint(
    tmp_path: Path, corpus_dir: Path, corpus: Corpus
) -> None:
    run = make_run(tmp_path / "run", corpus_dir)
    facts = corpus_facts(corpus, corpus_dir)
    trainer = Trainer(resolved_run(run, facts), corpus, CPU)
    with torch.no_grad():
        trainer.model.to_logits.weight[5] = float("nan")

    with pytest.raises(TrainingError, match=r"finite number, got nan.* in step 1\..*below 0\.003"):
        trainer.train(SilentListener(), lambda: False, lambda _stage, _done, _total: None)

    assert list_checkpoints(run.path) == []
    assert trainer.state.step == 0


def test_a_changed_corpus_is_refused(tmp_path: Path, corpus_dir: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(corpus_dir, changed)
    run = make_run(tmp_path / "run", changed, max_steps=2)
    go(run)
    store_document(changed, TextDocument(path="new.txt", text="A new land. " * 9, encoding="utf-8"))
    build_corpus(changed, CorpusConfig(chunk_size=8, vocab_size=400), device=CPU)

    with pytest.raises(ArtifactMismatchError, match=r"changed is now version .* start a new run"):
        train(run.path, device=CPU, max_steps=4)

    assert [record.step for record in list_checkpoints(run.path)] == [2]


def test_a_sequence_may_not_reach_beyond_what_its_neighbors_exclude(tmp_path: Path) -> None:
    """Otherwise a neighbor could be text that the sequence itself goes on to predict."""
    folder = tmp_path / "novel"
    words = " ".join(f"word{i % 50} and{i % 7}" for i in range(3000))
    store_document(folder, TextDocument(path="novel.txt", text=words, encoding="utf-8"))
    config = CorpusConfig(chunk_size=8, vocab_size=400, exclusion_window=16)
    build_corpus(folder, config, device=CPU, embedder=hash_embedder)

    with pytest.raises(ConfigError, match=r"sequence_length must be at most 16, .* got 32"):
        go(make_run(tmp_path / "run", folder))


def test_a_run_whose_corpus_has_no_index_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tmp_path / "nothing")

    with pytest.raises(ArtifactMissingError, match="'nothing' has no index yet"):
        go(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "preset must be one of tiny, .*got 'huge'"),
        ({"model": {"num_tokens": 5}}, "num_tokens follows from the corpus, got 5"),
        ({"model": {"heads": 0}}, "heads must be .* got 0"),
        ({"model": {"dec_cross_attn_layers": [9]}}, "layers between 1 and 4.* got 9"),
        ({"training": {"batch_size": 2.5}}, r"batch_size must be a whole number .* got 2\.5"),
        ({"training": {"max_steps": -1}}, "max_steps must be .* got -1"),
        ({"training": {"lr": 1}}, "no setting 'lr'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    tmp_path: Path, corpus_dir: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        create_run(tmp_path / "run", corpus_dir, **arguments)  # type: ignore[arg-type]

    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny_run: Run, corpus_dir: Path) -> None:
    with pytest.raises(ConfigError, match="run already holds a run"):
        create_run(tiny_run.path, corpus_dir)


def short_texts() -> dict[str, str]:
    return {
        f"{row:02d}.txt": f"The {row} birds of {row * 7} sing in spring; few fly in winter. " * 2
        for row in range(40)
    }


def losses(tmp_path: Path, corpus_dir: Path, name: str, **changes: object) -> list[float]:
    run = create_run(
        tmp_path / name, corpus_dir, model=TINY_MODEL, training={**TINY_TRAINING, **changes}
    )
    recorder = Recorder()
    train(run.path, device=CPU, listener=recorder)
    return [value for _, value in recorder.values("train_loss") + recorder.values("val_loss_on")]


def test_workers_change_no_loss_and_packing_no_mean(tmp_path: Path, corpus_dir: Path) -> None:
    alone = losses(tmp_path, corpus_dir, "alone")

    assert losses(tmp_path, corpus_dir, "workers", num_workers=2) == alone
    assert losses(tmp_path, corpus_dir, "not-packed", packing=False) != alone


def test_resuming_with_workers_equals_never_having_stopped(
    tmp_path: Path, corpus_dir: Path
) -> None:
    settings = {**TINY_TRAINING, "num_workers": 2}
    expected = losses(tmp_path, corpus_dir, "whole")
    run = create_run(tmp_path / "parts", corpus_dir, model=TINY_MODEL, training=settings)
    recorder = Recorder()

    train(run.path, device=CPU, listener=recorder, should_stop=StopAfter(3))
    train(run.path, device=CPU, listener=recorder)

    parts = [v for _, v in recorder.values("train_loss") + recorder.values("val_loss_on")]
    assert parts == expected


def test_packed_training_takes_fewer_steps_through_short_documents(tmp_path: Path) -> None:
    small_corpus(tmp_path / "corpus", short_texts(), CorpusConfig(chunk_size=8, vocab_size=300))
    run = create_run(
        tmp_path / "run",
        tmp_path / "corpus",
        model=TINY_MODEL,
        training={**TINY_TRAINING, "sequence_length": 128, "max_steps": 2},
    )
    corpus = Corpus.open(tmp_path / "corpus")
    facts = corpus_facts(corpus, tmp_path / "corpus")
    trainer = Trainer(resolved_run(run, facts), corpus, CPU)

    result = trainer.train(SilentListener(), lambda: False, lambda *_: None)

    assert result.step == 2
    assert trainer.dataset.is_packed_N.any()
    assert len(trainer.dataset) < 0.6 * len(trainer.dataset.starts_P)


def test_checkpointed_gradients_are_the_same_and_take_less_memory() -> None:
    torch.manual_seed(0)
    model = RETRO(num_tokens=50, max_seq_len=64, chunk_size=8, enc_dim=32, dec_dim=32, dec_depth=4,
                  dec_cross_attn_layers=(2, 3), heads=2, dim_head=16, dec_ff_dropout=0.1,
                  enc_attn_dropout=0.1)  # fmt: skip
    seq, retrieved = torch.randint(1, 50, (2, 65)), torch.randint(0, 50, (2, 8, 2, 16))

    def measure(checkpointing: bool) -> tuple[int, list[torch.Tensor]]:
        torch.manual_seed(1)
        model.gradient_checkpointing = checkpointing
        model.zero_grad()
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(seq, retrieved, return_loss=True)
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        return sum(kept.values()), gradients

    plain, expected = measure(False)
    less, found = measure(True)

    assert less < 0.5 * plain
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


needs_a_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in COMPILERS), reason="needs a C++ compiler"
)


@needs_a_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_the_traced_network_has_the_losses_and_gradients_of_the_network() -> None:
    torch.manual_seed(0)
    model = RETRO(num_tokens=50, max_seq_len=32, chunk_size=8, enc_dim=16, enc_depth=1, dec_dim=24,
                  dec_depth=1, dec_cross_attn_layers=(1,), heads=2, dim_head=8)  # fmt: skip
    traced = copy.deepcopy(model)
    # All that compiling does but for the machine code, which takes a minute.
    compile_network(traced, backend="aot_eager")

    # For another number of rows it is compiled again, for any number.
    for rows in (3, 2):
        seq, retrieved = torch.randint(1, 50, (rows, 33)), torch.randint(0, 50, (rows, 4, 2, 16))
        gradients = []
        for network in (model, traced):
            network.zero_grad()
            network(seq, retrieved, return_loss=True).backward()
            gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        assert len(gradients[0]) > 10
        torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-6)


@needs_a_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_run_that_is_to_be_compiled_trains_the_compiled_network(
    tmp_path: Path, corpus_dir: Path, corpus: Corpus
) -> None:
    is_compiled = []
    for compile in (True, False):
        run = make_run(tmp_path / f"{compile}", corpus_dir, compile=compile)
        trainer = Trainer(resolved_run(run, corpus_facts(corpus, corpus_dir)), corpus, CPU)
        is_compiled.append(trainer.network._compiled_call_impl is not None)

    assert is_compiled == [True, False]


@pytest.mark.sweep
@needs_a_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiling_changes_no_loss(tmp_path: Path, corpus_dir: Path) -> None:
    small = {"dec_depth": 1, "dec_cross_attn_layers": [1]}
    settings = {**TINY_TRAINING, "max_steps": 2, "packing": False, "eval_every": 2}

    def train_once(name: str, **changes: object) -> list[float]:
        run = create_run(
            tmp_path / name,
            corpus_dir,
            model={**TINY_MODEL, **small},
            training={**settings, **changes},
        )
        recorder = Recorder()
        train(run.path, device=CPU, listener=recorder)
        return [value for _, value in recorder.values("train_loss")]

    assert train_once("compiled", compile=True) == pytest.approx(train_once("plain"), abs=1e-4)


def test_compiling_without_a_compiler_is_refused_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, corpus_dir: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler, and no-such-compiler was"):
        losses(tmp_path, corpus_dir, "run", compile=True)
