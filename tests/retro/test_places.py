"""Names that no file can have are refused with one sentence, wherever they are given."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from retro.__main__ import main
from retro.config.corpus import CorpusConfig
from retro.corpus.corpus import Corpus
from retro.corpus.ingest import ingest_folder
from retro.corpus.tokenizer import find_tokenizer
from retro.errors import ConfigError, PublishError, RetroError
from retro.export import export_run
from retro.generation.generate import Generator
from retro.model.hub_names import check_repository
from retro.model.retro.model import RETRO
from retro.places import check_place
from retro.retrieval.encoder_files import find_encoder, find_encoder_offline
from retro.retro_pytorch.bert import tokenize
from retro.retro_pytorch.chunks import text_folder_to_chunks_
from retro.run import create_run, open_run
from tests.conftest import TINY_MODEL

IMPOSSIBLE = {
    "long": "n" * 10_000,
    "long path": "folder/" * 1_000,
    "deep": "d/" * 1_500 + "d",
    "two lines": "user/na\nme",
    "null": "na\0me",
    "half a character": "\ud800",
    "nothing": " ",
}
GIVEN_TO_PROGRAM = [kind for kind in IMPOSSIBLE if kind not in ("null", "half a character")]
"""The system itself hands no others to a program."""


def is_sentence(text: str) -> bool:
    return len(text) < 600 and text.count("\n") <= 1 and "Traceback" not in text


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_an_impossible_name_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"^encoder must .*, got ") as caught:
        CorpusConfig(encoder=IMPOSSIBLE[kind])

    assert is_sentence(str(caught.value))


def test_names_are_measured_in_bytes_and_new_ones_leave_room_for_more(tmp_path: Path) -> None:
    longest, too_long = "ü" * 127, "ü" * 128

    (tmp_path / longest).mkdir()
    assert check_place("it", tmp_path / longest).is_dir()
    with pytest.raises(ConfigError, match="at most 255 bytes between two slashes, got 256 in "):
        check_place("it", too_long)
    with pytest.raises(ConfigError, match="at most 200 bytes between two slashes, got 254 in "):
        check_place("it", longest, is_new=True)
    # A name that is written like this was made by an older program, and is possible.
    odd = os.fsdecode(b"caf\xe9 \xc2\xa0")
    assert check_place("it", odd) == Path(odd)


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "build FOLDER": lambda name: ["build", name, "--out", "x"],
    "build --out": lambda name: ["build", "--sample", "python-docs", "--out", name],
    "build --encoder": lambda name: ["build", "text", "--out", "x", "--encoder", name],
    "build --tokenizer": lambda name: ["build", "text", "--out", "x", "--tokenizer", name],
    "build --sample": lambda name: ["build", "--sample", name, "--out", "x"],
    "train CORPUS": lambda name: ["train", name, "--out", "x"],
    "train --out": lambda name: ["train", "x", "--out", name],
    "generate RUN": lambda name: ["generate", name, "--prompt", "x"],
    "generate --corpus": lambda name: ["generate", "x", "--prompt", "x", "--corpus", name],
    "search CORPUS": lambda name: ["search", name, "x"],
    "export RUN": lambda name: ["export", name, "--out", "x"],
    "export --out": lambda name: ["export", "x", "--out", name],
    "export --push-to-hub": lambda name: ["export", "x", "--out", "x", "--push-to-hub", name],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_says_so_in_one_line(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").mkdir()
    Path("text/a.txt").write_text("A text that is long enough. " * 20)

    for kind in GIVEN_TO_PROGRAM:
        with pytest.raises(SystemExit) as ended:
            raise SystemExit(main(COMMANDS[command](IMPOSSIBLE[kind])))

        line = capsys.readouterr().err
        assert ended.value.code == 1, line
        assert is_sentence(line), line[:200]
        assert " must " in line
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_the_environment_names_no_impossible_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETRO_ENCODER", IMPOSSIBLE["long"])

    with pytest.raises(ConfigError, match="RETRO_ENCODER must have at most 3,500 bytes"):
        tokenize("x")
    assert main(["build", str(tmp_path), "--out", str(tmp_path / "corpus")]) == 1
    assert is_sentence(capsys.readouterr().err)


CALLS: dict[str, Callable[[str, Path], object]] = {
    "find_encoder": lambda name, _: find_encoder(name),
    "find_encoder_offline": lambda name, _: find_encoder_offline(name),
    "tokenize": lambda name, _: tokenize("x", encoder=name),
    "find_tokenizer": lambda name, _: find_tokenizer(name),
    "from_pretrained": lambda name, _: RETRO.from_pretrained(name),
    "save_pretrained": lambda name, _: RETRO(**TINY_MODEL).save_pretrained(name),
    "push_to_hub": lambda name, _: RETRO(**TINY_MODEL).push_to_hub(name),
    "check_repository": lambda name, _: check_repository(name),
    "Generator.open": lambda name, _: Generator.open(name),
    "export_run": lambda name, folder: export_run(name, folder),
    "create_run": lambda name, folder: create_run(Path(name), folder),
    "create_run of a corpus": lambda name, folder: create_run(folder / "run", Path(name)),
    "open_run": lambda name, _: open_run(Path(name)),
    "Corpus.open": lambda name, _: Corpus.open(Path(name)),
    "ingest_folder": lambda name, folder: ingest_folder(Path(name), folder),
    "ingest_folder into": lambda name, folder: ingest_folder(folder, Path(name)),
    "text_folder_to_chunks_": lambda name, folder: text_folder_to_chunks_(
        folder=folder,
        chunks_memmap_path=name,
        seqs_memmap_path=folder / "s",
        doc_ids_memmap_path=folder / "d",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_library_says_so_in_one_sentence(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    for kind, name in IMPOSSIBLE.items():
        # An empty encoder is the default one, and a path of nothing is this folder.
        if kind == "nothing":
            continue
        with pytest.raises(RetroError) as caught:
            CALLS[call](name, tmp_path)

        assert is_sentence(str(caught.value)), kind
        assert isinstance(caught.value, ConfigError | PublishError), kind
    assert not any(tmp_path.iterdir())
