"""Training pretrained models: only what the mode says changes, and nothing is lost."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retro.config.corpus import CorpusConfig
from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.config.sampling import SamplingConfig
from retro.corpus.build import build_corpus
from retro.errors import ArtifactMismatchError, ConfigError
from retro.export import export_run
from retro.generation.events import ChunkEvent
from retro.generation.generate import Generator
from retro.model.language_model import Retrieved, TokenRows
from retro.model.open import open_saved
from retro.model.pretrained.base import Base, open_base
from retro.model.pretrained.model import PretrainedModel
from retro.model.pretrained.stored import read_sizes, tensors_sha256
from retro.model.pretrained.trained import trained_tensors
from retro.run import Run, create_run, open_run
from tests.conftest import country_texts
from tests.fakes import small_corpus, store_texts
from tests.retro.training.runs import CPU, Recorder, StopAfter, checkpoint_content, go
from tests.support.small_models import FAMILIES, save_model_with_tokenizer, small_model

pytestmark = pytest.mark.slow

SIZE = 8
MODES = (TrainingMode.GATES, TrainingMode.LORA, TrainingMode.FULL)
TRAINING = {
    "max_steps": 6,
    "batch_size": 2,
    "sequence_length": 4 * SIZE,
    "learning_rate": 3e-3,
    "warmup_steps": 1,
    "eval_every": 3,
    "checkpoint_every": 3,
    "log_every": 1,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_with_tokenizer(tmp_path_factory.mktemp("base") / "small")


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory, base_dir: Path) -> Path:
    """Return a corpus that the model's own tokenizer has cut."""
    folder = tmp_path_factory.mktemp("corpus") / "countries"
    store_texts(folder, country_texts())
    settings = CorpusConfig(chunk_size=SIZE)
    build_corpus(folder, settings, tokenizer=base_dir)
    return folder


def new_run(folder: Path, corpus_dir: Path, base: Path, mode: str, **training: object) -> Run:
    return create_run(
        folder,
        corpus_dir,
        preset=mode,
        model={"base": str(base)},
        training={**TRAINING, **training},
    )


def model_of(family: str, mode: TrainingMode) -> PretrainedModel:
    base = small_model(family)
    base.set_attn_implementation("retro")
    torch.manual_seed(1)
    config = PretrainedConfig(base="small", chunk_size=SIZE, window=128, mode=mode)
    return PretrainedModel(config, Base(base, Path("small"), 256, 1))


def rows() -> tuple[TokenRows, Retrieved]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 250, (2, 4 * SIZE), generator=generator)
    ids = torch.randint(3, 250, (2, 4, 2, 2 * SIZE), generator=generator)
    counted = torch.ones_like(tokens, dtype=torch.bool)
    counted[:, -1] = False
    return TokenRows(tokens, tokens.roll(-1, 1), counted), Retrieved(ids, ids > 10)


def gradients(model: PretrainedModel) -> dict[str, Tensor]:
    model.train().zero_grad()
    model.mean_loss(*rows()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi3"])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_what_the_mode_trains_and_nothing_else(
    family: str, mode: TrainingMode
) -> None:
    model = model_of(family, mode)

    found = gradients(model)

    trained = trained_tensors(model)
    assert set(found) == set(trained)
    # A matrix that begins at zero keeps its partner's gradient at zero for the first step.
    at_zero = {name for name, gradient in found.items() if not gradient.abs().max() > 0}
    assert all("lora_A" in name for name in at_zero)
    in_lora = {name for name in trained if "lora_" in name}
    matrices = {"llama": 4, "gpt2": 2, "gpt_neox": 2, "phi3": 2}[family]
    if mode is TrainingMode.FULL:
        assert len(trained) == len(list(model.parameters()))
    else:
        assert set(trained) - in_lora == {"gate_LH"}
        assert len(in_lora) == (2 * 3 * matrices if mode is TrainingMode.LORA else 0)


@pytest.mark.parametrize("mode", [TrainingMode.GATES, TrainingMode.LORA])
def test_before_the_first_step_it_is_the_base(mode: TrainingMode) -> None:
    with torch.inference_mode():
        plain = model_of("llama", TrainingMode.NONE).eval().losses(*rows())
        found = model_of("llama", mode).eval().losses(*rows())

    assert torch.equal(found, plain)


@pytest.mark.parametrize("mode", MODES)
def test_recomputed_gradients_are_the_same_and_take_less_memory(mode: TrainingMode) -> None:
    model = model_of("qwen2", mode)

    def measure(recompute: bool) -> tuple[int, dict[str, Tensor]]:
        model.gradient_checkpointing = recompute
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found = gradients(model)
        return sum(kept.values()), found

    plain, expected = measure(recompute=False)
    less, found = measure(recompute=True)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert less < 0.8 * plain


@pytest.mark.parametrize("mode", [TrainingMode.GATES, TrainingMode.LORA])
@torch.inference_mode()
def test_single_tokens_are_read_with_what_was_trained(mode: TrainingMode) -> None:
    model = model_of("llama", mode).eval()
    for tensor in trained_tensors(model).values():
        tensor.copy_(0.02 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3)))
    given, retrieved = rows()
    step = model.token_reader()
    assert step is not None
    caches = [model.new_cache(1) for _ in range(2)]
    first = Retrieved(retrieved.ids[:1, :1], retrieved.exists[:1, :1])
    for cache in caches:
        model.predict(given.tokens_BT[:1, :SIZE], cache, first)
    text = step.take_over(caches[1])

    for place in range(SIZE, 2 * SIZE - 1):
        said = model.predict(given.tokens_BT[:1, place : place + 1], caches[0], None)
        logits_V = text.read(int(given.tokens_BT[0, place]))
        assert torch.allclose(torch.from_numpy(logits_V), said.logits_NV[0], atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_a_run_learns_is_resumed_exactly_and_leaves_the_base_as_it_was(
    tmp_path: Path, base_dir: Path, corpus_dir: Path, mode: TrainingMode
) -> None:
    before = tensors_sha256(base_dir)
    straight, broken = Recorder(), Recorder()
    first = new_run(tmp_path / "straight", corpus_dir, base_dir, mode.value)
    second = new_run(tmp_path / "broken", corpus_dir, base_dir, mode.value)

    go(first, straight)
    go(second, broken, StopAfter(2))
    go(second, broken)

    assert checkpoint_content(first, 6) == checkpoint_content(second, 6)
    assert straight.measured() == broken.measured()
    base = dict(straight.values("val_loss_base"))
    off = dict(straight.values("val_loss_off"))
    assert list(base) == [0, 3, 6]
    assert set(base.values()) == {off[0]}
    assert (off[6] == off[0]) is (mode is TrainingMode.GATES)
    assert straight.values("val_loss_on")[-1][1] < straight.values("val_loss_on")[0][1]
    assert tensors_sha256(base_dir) == before
    settings = open_run(first.path).model
    assert isinstance(settings, PretrainedConfig)
    assert (settings.base, settings.base_sha256) == (str(base_dir), before)
    size = (first.checkpoints_dir / "step-00000006" / "model.safetensors").stat().st_size
    sizes = read_sizes(base_dir)
    assert 4 * sizes.trained(settings) < size < 4 * sizes.trained(settings) + 10_000


def test_what_was_trained_is_saved_alone_and_opened_again(
    tmp_path: Path, base_dir: Path, corpus_dir: Path
) -> None:
    run = new_run(tmp_path / "run", corpus_dir, base_dir, "lora", learning_rate=0.03)
    go(run)
    folder = export_run(run.path, tmp_path / "saved")

    card = (folder / "README.md").read_text()
    for words in ("small that reads neighbors, trained on countries", "off, before this training"):
        assert words in card
    assert str(base_dir) not in card
    texts = []
    for path in (run.path, folder, base_dir):
        generator = Generator.open(path, corpus_dir=corpus_dir, device=CPU)
        config = SamplingConfig(max_new_tokens=20, temperature=0)
        events = generator.generate("Country", config)
        texts.append([e.chunk.token_ids for e in events if isinstance(e, ChunkEvent)])
    assert texts[0] == texts[1] != texts[2]
    moved = base_dir.with_name("elsewhere")
    shutil.copytree(base_dir, moved)
    again = PretrainedModel.from_pretrained(folder, base=str(moved))
    assert again.config.base == str(moved)
    assert torch.equal(
        trained_tensors(again)["gate_LH"],
        trained_tensors(open_saved(folder, CPU).network)["gate_LH"],
    )
    other = save_model_with_tokenizer(tmp_path / "other", family="qwen2")
    with pytest.raises(ArtifactMismatchError, match=r"belongs to the model .* with the sha256"):
        PretrainedModel.from_pretrained(folder, base=str(other))


def test_what_does_not_fit_is_refused_before_the_first_step(
    tmp_path: Path, base_dir: Path, corpus_dir: Path
) -> None:
    small_corpus(tmp_path / "own", country_texts())
    run = new_run(tmp_path / "run", tmp_path / "own", base_dir, "lora")
    with pytest.raises(ArtifactMismatchError, match=r"cut by another one.*--tokenizer small"):
        go(run)

    long = new_run(tmp_path / "long", corpus_dir, base_dir, "gates", sequence_length=256)
    with pytest.raises(ConfigError, match="at most the model's window of 239 tokens, got 256"):
        go(long)

    for model, training, words in [
        ({"base": "x", "mode": "lora"}, {}, "mode follows from base and mode"),
        ({"base": "x", "chunk_size": 8}, {}, "chunk_size follows from the corpus"),
        ({"base": "x"}, {"packing": True}, "packing must be off"),
        ({"base": "x"}, {"compile": True}, "compile must be off"),
        ({"base": "x", "lora_rank": 0}, {}, "lora_rank must be a whole number"),
    ]:
        with pytest.raises(ConfigError, match=words):
            create_run(tmp_path / "no", corpus_dir, preset="lora", model=model, training=training)
    with pytest.raises(ConfigError, match="lora is a way to train a pretrained model"):
        create_run(tmp_path / "no", corpus_dir, preset="lora")
    with pytest.raises(ConfigError, match="mode must be one of gates, lora, full, got 'tiny'"):
        create_run(tmp_path / "no", corpus_dir, preset="tiny", model={"base": "x"})


def test_a_base_that_has_changed_is_not_trained_on(
    tmp_path: Path, base_dir: Path, corpus_dir: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_dir, base)
    run = new_run(tmp_path / "run", corpus_dir, base, "gates")
    go(run, stop=StopAfter(3))
    changed = open_base(base, CPU).model
    with torch.no_grad():
        changed.get_input_embeddings().weight[5] += 1
    changed.save_pretrained(base)

    with pytest.raises(ArtifactMismatchError, match=r"other settings.*its base"):
        go(run)


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_known_from_the_files(tmp_path: Path, family: str) -> None:
    folder = save_model_with_tokenizer(tmp_path / family, family=family)
    config = PretrainedConfig(base=str(folder), chunk_size=SIZE, mode=TrainingMode.LORA)

    sizes = read_sizes(folder)

    model = PretrainedModel.create(config, CPU)
    trained = sum(tensor.numel() for tensor in trained_tensors(model).values())
    parameters = sum(weights.numel() for weights in model.parameters())
    assert sizes.trained(config) == trained
    assert sizes.parameters == parameters - trained
