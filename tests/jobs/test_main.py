"""The worker as it is started in production."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jobs.home import Home
from jobs.store.rows import DocumentEntry
from jobs.store.states import JobState
from jobs.store.store import Store
from retro.data.documents import TextDocument, store_document

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0

pytestmark = pytest.mark.slow


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url)
    yield store
    store.close()


@pytest.fixture
def start_worker(home: Home, database_url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes = []

    def start(folder: str = str(home.path)) -> subprocess.Popen[str]:
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environ["RETRO_DATABASE_URL"] = database_url
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "--home", folder],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start

    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for too long"
        time.sleep(0.05)


def test_a_job_outlives_the_worker(store: Store, home: Home, start_worker) -> None:
    corpus = store.create_corpus("letters", {"chunk_size": 16})
    for number in range(4):
        text = " ".join(f"word{i % (number + 20)}" for i in range(500))
        document = TextDocument(path=f"{number}.txt", text=text, encoding="utf-8", note=None)
        store_document(home.corpus_dir(corpus.id), document)
        entry = DocumentEntry(path=document.path, bytes=len(text), sha256="", encoding="utf-8")
        store.add_documents(corpus.id, [entry])
    job = store.submit("build", corpus_id=corpus.id, settings={})
    worker = start_worker()
    wait_until(lambda: store.get_job(job.id).state is JobState.RUNNING)
    assert [row.pid for row in store.list_workers()] == [worker.pid]
    assert "libtorch" not in "".join(m.path for m in psutil.Process(worker.pid).memory_maps())

    worker.send_signal(signal.SIGTERM)
    output, _ = worker.communicate(timeout=PATIENCE_S)

    assert worker.returncode == 0, output
    assert store.list_workers() == []
    wait_until(lambda: store.get_job(job.id).state.is_finished)
    assert store.get_job(job.id).state is JobState.SUCCEEDED, home.read_job_log(job.id)
    assert store.get_job(job.id).attempt == 1


def test_a_second_worker_says_so_and_ends(store: Store, start_worker) -> None:
    first = start_worker()
    wait_until(lambda: bool(store.list_workers()))

    second = start_worker()
    output, _ = second.communicate(timeout=PATIENCE_S)

    assert second.returncode == 1
    assert f"process {first.pid} is one already" in output
    assert "Traceback" not in output


def test_a_home_that_no_folder_can_be_is_refused_in_one_line(start_worker) -> None:
    worker = start_worker("h" * 10_000)
    output, _ = worker.communicate(timeout=PATIENCE_S)

    assert worker.returncode == 1
    assert "RETRO_HOME must have at most 3,500 bytes, got 10,000" in output
    assert "Traceback" not in output


def test_a_database_of_a_newer_version_is_refused_in_one_line(store: Store, start_worker) -> None:
    store.create_corpus("letters", {})
    with store.write() as session:
        session.connection().exec_driver_sql("INSERT INTO schema_version VALUES (999, 0.0)")
    store.close()

    worker = start_worker()
    output, _ = worker.communicate(timeout=PATIENCE_S)

    assert worker.returncode == 1
    assert "got 999" in output
    assert "Traceback" not in output


def test_the_store_and_the_worker_import_neither_torch_nor_the_app() -> None:
    code = (
        "import sys, jobs.__main__, jobs.store.store, jobs.work.worker;"
        "heavy = ('torch', 'transformers', 'faiss', 'gradio', 'app');"
        "print([name for name in heavy if name in sys.modules])"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "[]"
