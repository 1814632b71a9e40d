"""Files of versions that runs were trained on, kept when a build replaces them.

``corpora/<id>/versions/<number>/`` holds tokenizer, database and index under their names: all that
training reads, and the text of every chunk. They are hard links to the files of the build, which
are replaced and never written into, so keeping them takes no room until the next build.
"""

from pathlib import Path

from jobs.home import Home, remove_folder
from jobs.store.states import RunState
from jobs.store.store import Store
from retro.artifacts import read_record
from retro.corpus.corpus import Corpus
from retro.corpus.files import DATABASE_NAME, INDEX_KIND, INDEX_NAME, TOKENIZER_NAME
from retro.errors import ArtifactError
from retro.run import open_run
from retro.whole_files import link_file, remove_staging, staged_folder

VERSIONS_NAME = "versions"
KEPT_FOLDERS = (TOKENIZER_NAME, DATABASE_NAME, INDEX_NAME)
AT_WORK = (RunState.STARTING, RunState.RUNNING)


def keep_version(home: Home, store: Store, corpus_id: str) -> None:
    """Keep the files of the version that a corpus is now, if a run needs it."""
    number = store.record_version(corpus_id)
    corpus_dir = home.corpus_dir(corpus_id)
    present = built_fingerprint(corpus_dir)
    if number is None or present not in needed_fingerprints(home, store, corpus_id):
        return
    kept = version_dir(corpus_dir, number)
    if kept.parent.exists():
        remove_staging(kept.parent)
    recorded = {row.number: row.fingerprint for row in store.list_versions(corpus_id)}
    # A build that was stopped has replaced some of the files, after it kept them all.
    if kept.exists() or recorded[number] != present or not _is_whole(corpus_dir):
        return
    with staged_folder(kept) as staging:
        for name in KEPT_FOLDERS:
            (staging / name).mkdir()
            for path in sorted((corpus_dir / name).iterdir()):
                link_file(path, staging / name / path.name)


def remove_unneeded(home: Home, store: Store, corpus_id: str) -> None:
    """Remove the kept versions that no run needs any more."""
    corpus_dir = home.corpus_dir(corpus_id)
    present = built_fingerprint(corpus_dir)
    needed = needed_fingerprints(home, store, corpus_id)
    at_work = needed_fingerprints(home, store, corpus_id, only_at_work=True)
    for number in kept_versions(corpus_dir):
        folder = version_dir(corpus_dir, number)
        found = built_fingerprint(folder)
        # The corpus itself is that version again, or still.
        is_twice = found == present and found not in at_work
        if found not in needed or is_twice:
            remove_folder(folder)
    if not kept_versions(corpus_dir):
        remove_folder(corpus_dir / VERSIONS_NAME)


def corpus_to_train_on(run_dir: Path, corpus_dir: Path) -> Path:
    """Return where a run finds its corpus as it was when its training began.

    Args:
        run_dir: The run, which may be new.
        corpus_dir: Its corpus.

    Returns:
        The corpus, or one of its kept versions. Where none fits, the corpus, which training
        refuses with the reason.
    """
    wanted = _run_fingerprint(run_dir)
    if wanted is None or built_fingerprint(corpus_dir) == wanted:
        return corpus_dir
    for number in kept_versions(corpus_dir):
        folder = version_dir(corpus_dir, number)
        if built_fingerprint(folder) == wanted:
            return folder
    return corpus_dir


def needed_fingerprints(
    home: Home, store: Store, corpus_id: str, *, only_at_work: bool = False
) -> set[str | None]:
    """Return the versions that the runs of a corpus were trained on.

    Args:
        home: The folder that holds everything.
        store: The database.
        corpus_id: The corpus.
        only_at_work: Leave runs out that are not being trained.
    """
    present = built_fingerprint(home.corpus_dir(corpus_id))
    found: set[str | None] = set()
    for run in store.list_runs():
        is_at_work = run.state in AT_WORK
        if run.corpus_id != corpus_id or (only_at_work and not is_at_work):
            continue
        # One that is just beginning has opened what is there now.
        begins_with = present if is_at_work else None
        found.add(_run_fingerprint(home.run_dir(run.id)) or begins_with)
    return found - {None}


def kept_versions(corpus_dir: Path) -> list[int]:
    """Return the numbers of the versions whose files are kept, rising."""
    folder = corpus_dir / VERSIONS_NAME
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def version_dir(corpus_dir: Path, number: int) -> Path:
    """Return the folder of a kept version."""
    return corpus_dir / VERSIONS_NAME / str(number)


def built_fingerprint(corpus_dir: Path) -> str | None:
    """Return the identity of what was built in a folder, None if nothing is finished there."""
    try:
        return read_record(corpus_dir / INDEX_NAME, INDEX_KIND).fingerprint
    except ArtifactError:
        return None


def _is_whole(corpus_dir: Path) -> bool:
    try:
        Corpus.open(corpus_dir)
    except ArtifactError:
        return False
    return True


def _run_fingerprint(run_dir: Path) -> str | None:
    try:
        return open_run(run_dir).corpus_fingerprint
    except ArtifactError:
        return None
