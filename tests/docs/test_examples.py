"""The worked examples of the documentation run as they are written."""

import pydoc
import re
from pathlib import Path

import huggingface_hub.constants
import pytest

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "examples.md").read_text()

PRINTED = {
    1: [r"10 documents, \d+ chunks", r"step 20: [3-7]\.\d\d nats", r"'The for.*written from \[\]"],
    2: [r"\d\.\d{3} topics/(try|raise|exceptions)\.txt \d+-\d+: ", "chunk:  ", "neighbor: "],
    3: [r"loss [67]\.\d\d, an even guess gives 6\.21", r"logits \(2, 64, 500\)"],
    4: [r"loss (9|10|11)\.\d\d", r"sampled \(1, \d+\)"],
    5: [
        r"'config\.json', 'model\.safetensors', 'origin\.json', 'tokenizer\.json'\]",
        r"corpus 4 \d\.\d\d",
    ],
    6: [
        r"1\. \w+\.txt: \d+% of the attention",
        r"longest shared run: \d+ tokens",
        r"are [+-]\d\.\d\d nats more likely",
        r"without try\.txt: \[(?!.*try\.txt).*\.txt'\]",
        r"by hand: \['written'\] \['retrieved', 'retrieved'\]",
    ],
    7: [r"'The try .*written from \[\]", r"written from \['\w+\.txt \d+%', '\w+\.txt \d+%'\]"],
    8: [
        r"step 2: \d\.\d\d with retrieval, \d\.\d\d off",
        r"saved 1\.\d MB, .*'special_tokens\.json'",
        r"smollm2-135m lora corpus",
    ],
}


def sections() -> dict[int, str]:
    parts = re.split(r"^## (\d)\. ", PAGE, flags=re.MULTILINE)[1:]
    return {int(number): text for number, text in zip(parts[::2], parts[1::2], strict=True)}


def test_there_are_eight_examples() -> None:
    assert list(sections()) == list(PRINTED) == list(range(1, 9))


@pytest.mark.parametrize("number", PRINTED)
def test_the_example_runs(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", sections()[number], re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    # Set before, so that what an example sets is taken back after it.
    monkeypatch.setenv("RETRO_ENCODER", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(block, namespace)

    out = capsys.readouterr().out
    for pattern in PRINTED[number]:
        assert re.search(pattern, out), f"{pattern} is not in {out}"


def test_the_commands_that_show_docstrings_name_things_that_exist() -> None:
    names = re.findall(r"^python -m pydoc (\S+)$", PAGE, flags=re.MULTILINE)

    assert names
    for name in names:
        assert pydoc.locate(name) is not None
