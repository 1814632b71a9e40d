"""Imports point one way, third parties stay behind their fences, and imports are cheap."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "retro": {"app", "jobs", "gradio", "sqlalchemy", "fastapi"},
    "retro/model": {
        "faiss",
        "transformers",
        "retro.data",
        "retro.retrieval",
        "retro.training",
        "retro.generation",
        "retro.run",
    },
    "retro/data": {"retro.model", "retro.retrieval", "retro.training", "retro.generation"},
    "retro/retrieval": {"retro.model", "retro.training", "retro.generation"},
    "retro/training": {"retro.generation"},
    "retro/generation": {"retro.training"},
    "jobs": {"app", "gradio", "fastapi", "retro.generation"},
    "app": {"sqlalchemy", "faiss", "transformers", "retro.training"},
}

FENCES = {
    "gradio": ("app/",),
    "sqlalchemy": ("jobs/",),
    "faiss": (
        "retro/retrieval/index.py",
        "retro/retrieval/index_training.py",
        "retro/retrieval/exact.py",
    ),
    "transformers": ("retro/data/tokenizer.py", "retro/retrieval/embedder.py"),
}


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"{folder} holds no modules"
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imported_names(path)
        for banned in FORBIDDEN[folder]
        if is_within(name, banned)
    ]
    assert not broken


@pytest.mark.parametrize("package", FENCES)
def test_third_parties_stay_behind_their_fences(package: str) -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("retro", "jobs", "app")
        for path in (ROOT / folder).rglob("*.py")
        if any(is_within(name, package) for name in imported_names(path))
    ]
    assert users
    assert [user for user in users if not user.startswith(FENCES[package])] == []


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import retro", {"torch", "numpy", "transformers", "faiss", "huggingface_hub"}),
        ("import retro.retrieval", {"torch", "numpy", "transformers", "faiss"}),
        ("import retro.config, retro.model.presets", {"torch", "numpy"}),
        ("import retro.run, retro.corpus.corpus", {"torch", "transformers", "faiss"}),
        ("import jobs.worker", {"torch", "transformers", "faiss", "gradio"}),
        ("import app.web", {"torch", "transformers", "faiss"}),
    ],
)
def test_imports_stay_light(code: str, absent: set[str]) -> None:
    assert loaded_after(code) & absent == set()


@pytest.mark.parametrize("name", ["retro", "retro.retrieval"])
def test_public_names_are_found_and_unknown_ones_are_named(name: str) -> None:
    package = importlib.import_module(name)

    for public in set(package.__all__) - {"__version__"}:
        assert getattr(package, public).__name__ == public
    assert set(package.__all__) == set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'REALM'"):
        package.REALM  # noqa: B018
