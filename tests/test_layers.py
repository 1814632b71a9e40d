"""Imports point one way, third parties stay behind their fences, and imports are cheap."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("app", "jobs", "retro", "bench")

FLOORS = (
    {"errors"},
    {"json_files", "places", "whole_files"},
    {"artifacts", "config", "disk", "memory", "progress"},
    {"checkpoints", "data", "device", "model"},
    {"retrieval", "run"},
    {"corpus", "run_space"},
    {"export", "generation", "training"},
    {"retro_pytorch", "run_samples"},
    {"terminal"},
    {"commands"},
    {"__main__"},
)
"""Rooms of ``retro``: files and folders. Each imports only what stands on floors below its own,
so corpora are built on retrieval, and retrieval knows no corpus."""
FACES = ("retro/__init__.py", "retro/retrieval/__init__.py")
"""They name where the public names are, above them too, and load nothing."""

FORBIDDEN = {
    "retro": {"app", "bench", "jobs"},
    "jobs": {"app", "bench", "retro.generation"},
    "app": {"bench", "retro.training"},
}

MODEL_MAY_IMPORT = (
    "retro.model", "retro.config", "retro.errors", "retro.artifacts", "retro.json_files",
    "retro.places", "retro.whole_files",
    "retro.disk",
)  # fmt: skip
"""Of this library; the last four read and write the files of saved models."""

RETRO_USERS = ("retro/model/", "retro/retro_pytorch/", "retro/__init__.py")
"""What may name the class: the models themselves, the drop-in, and the public name."""
SETTINGS_OF_RETRO = ("retro.model.retro.presets", "retro.model.retro.costs")
"""Sizes that people choose from; everybody may read them."""

MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 60
"""Without its docstring: a drop-in function has many arguments to describe."""

FENCES = {
    "fastapi": ("app/",),
    "gradio": ("app/",),
    "starlette": ("app/",),
    "alembic": ("jobs/schema/",),
    "sqlalchemy": ("jobs/store/", "jobs/schema/", "jobs/errors.py"),
    "faiss": ("retro/retrieval/",),
    "peft": ("retro/model/pretrained/trained.py",),
    "huggingface_hub": (
        "retro/model/hub.py",
        "retro/model/hub_names.py",
        "retro/retrieval/encoder_files.py",
    ),
    "tokenizers": ("retro/data/byte_level.py", "retro/data/model_tokenizer.py"),
    "transformers": ("retro/retrieval/embedder.py", "retro/model/pretrained/"),
}


def imported_names(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what a file imports, also inside functions and for types alone, and the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # What is imported may be a module of the package, or a name in it.
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imports_of(root: Path, folders: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Return the files that each file imports, with the line; paths are relative to the root."""
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    relative = [path.relative_to(root) for path in paths]
    modules = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path.as_posix()
        for path in relative
    }
    found: dict[str, dict[str, int]] = {}
    for path, name in zip(paths, relative, strict=True):
        imports = found.setdefault(name.as_posix(), {})
        for imported, line in imported_names(path):
            target = modules.get(imported) or modules.get(imported.rpartition(".")[0])
            if target is not None and target != name.as_posix():
                imports.setdefault(target, line)
    return found


def circle_of(imports: dict[str, dict[str, int]]) -> str:
    """Return one circle of files that import each other, a step a line; empty without one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        files = error.args[1][::-1]
        return "".join(
            f"\n  {file}:{imports[file][target]} imports {target}"
            for file, target in pairwise(files)
        )
    return ""


def room_of(path: str) -> str:
    return Path(path).parts[1].removesuffix(".py")


def test_no_files_import_each_other_in_a_circle() -> None:
    imports = imports_of(ROOT, CODE)

    assert len(imports) > 250
    circle = circle_of(imports)
    assert not circle, f"Give what these files share a file of its own:{circle}"


def test_a_circle_is_shown_whatever_kind_of_import_closes_it(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").touch()
    (room / "corpus.py").write_text("from room.plan import size\n")
    (room / "plan.py").write_text("def size():\n    import room.build\n")
    (room / "build.py").write_text("\nif TYPE_CHECKING:\n    from room import corpus\n")
    (room / "above.py").write_text("from room import build\n")
    imports = imports_of(tmp_path, ("room",))

    steps = sorted(circle_of(imports).split("\n  ")[1:])

    assert steps == [
        "room/build.py:3 imports room/corpus.py",
        "room/corpus.py:1 imports room/plan.py",
        "room/plan.py:2 imports room/build.py",
    ]
    assert circle_of({**imports, "room/plan.py": {}}) == ""


def test_rooms_of_the_library_import_only_what_stands_below_them() -> None:
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    imports = imports_of(ROOT, ("retro",))
    rooms = {room_of(path) for path in imports} - {"__init__"}

    assert rooms == set(floors), "every room stands on one floor, and no floor is left empty"
    upward = [
        f"{path}:{line} imports {target}"
        for path, targets in imports.items()
        for target, line in targets.items()
        if path not in FACES
        and room_of(target) != room_of(path)
        and (target in FACES or floors[room_of(target)] >= floors[room_of(path)])
    ]
    assert not upward


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"{folder} holds no modules"
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for name, line in imported_names(path)
        for banned in FORBIDDEN[folder]
        if is_within(name, banned)
    ]
    assert not broken


def modules_imported(*folders: str) -> list[tuple[str, str]]:
    """Return the path of every module, relative to the root, with each name that it imports."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [
        (path.relative_to(ROOT).as_posix(), name)
        for path in paths
        for name, _ in imported_names(path)
        if is_within(name, "retro")
    ]


def test_models_know_nothing_of_corpora_training_and_writing() -> None:
    imported = modules_imported("retro/model")

    assert len(imported) > 50
    assert [
        (path, name)
        for path, name in imported
        if not any(is_within(name, allowed) for allowed in MODEL_MAY_IMPORT)
    ] == []


def test_only_the_model_package_knows_kinds_of_model() -> None:
    imported = [
        (path, name)
        for path, name in modules_imported("retro", "jobs", "app")
        if is_within(name, "retro.model.retro") and not name.startswith(SETTINGS_OF_RETRO)
    ]

    assert ("retro/model/open.py", "retro.model.retro.model.RETRO") in imported
    assert [item for item in imported if not item[0].startswith(RETRO_USERS)] == []


def test_only_a_build_that_trains_a_tokenizer_names_its_kind() -> None:
    users = {
        path
        for path, name in modules_imported("retro", "jobs", "app")
        if name == "retro.data.byte_level.ByteLevelTokenizer"
    }

    assert users == {"retro/corpus/build.py", "retro/data/tokenizer.py"}


@pytest.mark.parametrize("package", FENCES)
def test_third_parties_stay_behind_their_fences(package: str) -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("retro", "jobs", "app")
        for path in (ROOT / folder).rglob("*.py")
        if any(is_within(name, package) for name, _ in imported_names(path))
    ]

    assert [user for user in users if not user.startswith(FENCES[package])] == []
    assert all(any(user.startswith(place) for user in users) for place in FENCES[package])


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
        ("import retro.config.training, retro.model.retro.presets", {"torch", "numpy"}),
        ("import retro.model.kinds", {"torch", "numpy"}),
        ("import retro.run, retro.corpus.corpus", {"torch", "transformers", "faiss"}),
        ("import jobs.work.worker", {"torch", "transformers", "faiss", "gradio"}),
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


def test_files_and_functions_are_short_enough_to_read() -> None:
    long = []
    paths = [path for folder in ("app", "jobs", "retro") for path in (ROOT / folder).rglob("*.py")]
    for path in paths:
        text = path.read_text()
        name = path.relative_to(ROOT).as_posix()
        if (lines := text.count("\n")) > MOST_LINES_OF_A_FILE:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{name}:{node.lineno} {node.name}: {lines} lines")

    assert len(paths) > 250
    assert long == []
