"""A process that is killed while it changes a corpus leaves nothing half done."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.corpus_files import hold_corpus
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.rows import DocumentEntry
from jobs.store.store import Store

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys
from pathlib import Path
from jobs import corpus_files
from jobs.corpus_files import hold_corpus
from jobs.store.corpus_locks import CorpusUse
from jobs.home import Home
from jobs.store.rows import DocumentEntry
from jobs.store.store import Store
from tests.jobs.test_corpus_kills import new

home, url, corpus_id, moment, left = *sys.argv[1:5], int(sys.argv[5])
owner, name = {
    "record": (Store, "add_documents"),
    "move": (Path, "replace"),
    "forget": (Store, "finish_moves"),
}[moment]
call = getattr(owner, name)

def die(*arguments, **named):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*arguments, **named)

setattr(owner, name, die)
with hold_corpus(Home(Path(home)), Store(url), corpus_id, CorpusUse.ADD) as files:
    files.keep([new("old.txt", "new text"), new("a/added.txt", "added"), new("b.txt", "b")])
"""

pytestmark = pytest.mark.slow


def new(path: str, text: str) -> tuple[DocumentEntry, bytes]:
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    return DocumentEntry(path=path, bytes=len(data), sha256=digest, encoding="utf-8"), data


@pytest.mark.parametrize(
    ("moment", "left", "is_done"),
    [("record", 0, False), ("move", 0, True), ("move", 2, True), ("forget", 0, True)],
)
def test_rows_and_files_agree_after_a_kill(
    database_url: str, home: Home, moment: str, left: int, is_done: bool
) -> None:
    store = Store(database_url)
    corpus_id = store.create_corpus("letters", {}).id
    with hold_corpus(home, store, corpus_id, CorpusUse.ADD) as files:
        files.keep([new("old.txt", "old text")])

    arguments = [str(home.path), database_url, corpus_id, moment, str(left)]
    killed = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((home.corpus_dir(corpus_id) / "incoming").iterdir())) > 0 or moment == "forget"

    # The lock of the killed process does not have to run out first.
    with hold_corpus(home, store, corpus_id, CorpusUse.ADD, wait_s=0) as files:
        root = home.corpus_dir(corpus_id) / "documents"
        found = {
            path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*.txt")
        }
        expected = {"old.txt": "new text", "a/added.txt": "added", "b.txt": "b"}
        assert found == (expected if is_done else {"old.txt": "old text"})
        assert store.list_moves(corpus_id) == []
        assert set(store.document_sums(corpus_id)) == set(found)
        assert all(files.has_text(new(path, text)[0]) for path, text in found.items())
    store.close()
