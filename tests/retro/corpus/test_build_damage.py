"""Whatever file of a build is damaged: it is noticed, made good, and nothing else is done again."""

import shutil
from pathlib import Path

import pytest

from retro.artifacts import read_manifest, verify_files
from retro.corpus.corpus import Corpus
from retro.corpus.files import CONFIG_NAME
from retro.errors import ArtifactError
from retro.retrieval.keys import KeyStore
from tests.retro.corpus.builds import ROWS, build, build_until, contents, store_small

DAMAGES = ("truncated", "emptied", "one bit", "deleted")
STAGES = ("tokenizer", "database", "keys", "index")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished corpus. Tests must not change it."""
    corpus_dir = tmp_path_factory.mktemp("finished") / "corpus"
    store_small(corpus_dir)
    build(corpus_dir)
    return corpus_dir


@pytest.fixture(scope="module")
def half_finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a corpus whose build ended while neighbors were searched. Do not change it."""
    corpus_dir = tmp_path_factory.mktemp("half") / "corpus"
    store_small(corpus_dir)
    build_until(corpus_dir, "neighbors", 3 * ROWS)
    return corpus_dir


def damage_file(path: Path, damage: str, number: int = 0) -> None:
    """Damage a file; the number chooses the bit that is flipped, where one is."""
    whole = path.read_bytes()
    path.unlink()
    flipped = bytearray(whole)
    flipped[(0, len(whole) // 2, len(whole) - 1)[number % 3]] ^= 1 << number % 8
    match damage:
        case "truncated":
            path.write_bytes(whole[:-1])
        case "emptied":
            path.write_bytes(b"")
        case "one bit":
            path.write_bytes(flipped)


def files_of(corpus_dir: Path) -> list[str]:
    return [name for name, content in contents(corpus_dir).items() if content != "folder"]


def inodes(corpus_dir: Path) -> dict[str, tuple[int, int]]:
    return {
        name: ((corpus_dir / name).stat().st_ino, (corpus_dir / name).stat().st_mtime_ns)
        for name in files_of(corpus_dir)
    }


def is_refused(corpus_dir: Path) -> bool:
    """Tell whether a reader of any part is refused, in one sentence for people."""
    message = ""
    try:
        Corpus.open(corpus_dir)
        KeyStore.open(corpus_dir / "keys")
    except ArtifactError as error:
        message = str(error)
    assert not message or (message.endswith(".") and len(message) < 300)
    return message != ""


def is_noticed(corpus_dir: Path) -> bool:
    try:
        for name in STAGES:
            verify_files(corpus_dir / name, read_manifest(corpus_dir / name, name))
    except ArtifactError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_finished_corpus_is_made_good(
    finished: Path, tmp_path: Path, damage: str
) -> None:
    wanted = contents(finished)
    assert {name.split("/")[0] for name in wanted} == {*STAGES, CONFIG_NAME}
    for number, name in enumerate(files_of(finished)):
        corpus_dir = tmp_path / str(number)
        shutil.copytree(finished, corpus_dir)
        damage_file(corpus_dir / name, damage, number)

        # Settings of the newest build, which the next one writes anew.
        if name != CONFIG_NAME:
            assert is_noticed(corpus_dir), name
            assert damage == "one bit" or is_refused(corpus_dir), name
        before = inodes(corpus_dir)
        build(corpus_dir)

        assert contents(corpus_dir) == wanted, name
        after = inodes(corpus_dir)
        made_again = {one for one, found in after.items() if before.get(one) != found}
        assert made_again - {CONFIG_NAME} <= allowed_to_change(name, set(wanted)), name


def allowed_to_change(name: str, names: set[str]) -> set[str]:
    """Return what may be written again to make a file good."""
    stage = name.split("/")[0]
    if stage == "keys":
        shard = {str(Path(name).with_suffix(suffix)) for suffix in (".npy", ".json")}
        return shard | {"keys/manifest.json"}
    if stage == "index" and name not in ("index/index.faiss", "index/manifest.json"):
        # Neighbors are searched again in the index that is there.
        return {"index/neighbors.npy", "index/distances.npy", "index/manifest.json"}
    return {one for one in names if one.startswith(f"{stage}/")}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_half_finished_corpus_is_made_good(
    finished: Path, half_finished: Path, tmp_path: Path, damage: str
) -> None:
    names = files_of(half_finished)
    assert {name.split("/")[0] for name in names} == {
        *STAGES,
        CONFIG_NAME,
        "index.partial",
    }
    assert sum("index.partial/neighbors-" in name for name in names) >= 2 * 3
    for number, name in enumerate(names):
        if "partial" not in name and DAMAGES[number % len(DAMAGES)] != damage:
            continue  # As in a finished corpus.
        corpus_dir = tmp_path / str(number)
        shutil.copytree(half_finished, corpus_dir)
        damage_file(corpus_dir / name, damage, number)

        # It can be searched already, but nothing is trained on it.
        assert is_refused(corpus_dir) or not Corpus.open(corpus_dir).has_neighbors
        build(corpus_dir)

        assert contents(corpus_dir) == contents(finished), name


def test_a_damaged_record_of_the_tokenizer_is_not_believed(finished: Path, tmp_path: Path) -> None:
    """Believed, it would ask for a tokenizer that never was."""
    shutil.copytree(finished, tmp_path / "corpus")
    path = tmp_path / "corpus" / "tokenizer" / "manifest.json"
    fingerprint = read_manifest(finished / "tokenizer", "tokenizer").settings["fingerprint"]
    other = fingerprint[:-1] + ("0" if fingerprint[-1] != "0" else "1")
    path.write_text(path.read_text().replace(fingerprint, other))

    build(tmp_path / "corpus")

    assert contents(tmp_path / "corpus") == contents(finished)
