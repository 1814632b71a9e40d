"""The Runs pages: what they show of runs, and that none of it is more than text."""

import ast
import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.chart import METRICS, render_compared_plots, render_run_plots
from app.pages import run_about, runs
from app.services.recipes import Recipe, as_command, as_python
from app.services.services import Services
from retro.run import create_run, open_run
from tests.app.real_app import MODEL, TRAINING, Trained
from tests.app.test_run_curves import make_run, measure

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)>\"'`${7*7}{{x}}</textarea></script>"


def page(services: Services, **query: str) -> str:
    """Return all parts of a page."""
    about = runs._of_run(services, query, run_about.render_about)
    notes = runs._of_run(services, query, run_about.render_notes)
    parts = (runs.render_runs, runs.render_charts, runs.render_details)
    return "".join([about, notes, *(part(services, query) for part in parts)])


def test_hostile_words_are_text_on_every_page(services: Services) -> None:
    one, two = make_run(services, HOSTILE), make_run(services, HOSTILE + "2", seed=3)
    tag = "<b>\"'${1}</b>"
    for run in (one, two):
        services.runs.change(run.id, tags=[tag], notes=HOSTILE)
    job = services.store.start_run(
        "child", one.corpus_id, {"preset": "tiny"}, 5, task={}, parent_id=one.id
    )

    shown = [
        page(services),
        page(services, tag=tag),
        page(services, tag=HOSTILE),
        page(services, run=one.id),
        page(services, run=job.run_id),
        page(services, compare=f"{one.id},{two.id}"),
        page(services, compare=f"{HOSTILE},{one.id}"),
        page(services, duplicate=one.id),
        page(services, duplicate=HOSTILE),
    ]

    for html in shown:
        assert "<img" not in html
        assert "<b>\"" not in html  # fmt: skip
        assert html.count("</textarea>") <= 1
    assert "&lt;img" in "".join(shown)


def test_the_page_of_a_run_tells_where_it_comes_from(services: Services) -> None:
    parent = make_run(services, "parent")
    job = services.store.start_run(
        "child", parent.corpus_id, {"preset": "tiny"}, 5, task={}, parent_id=parent.id
    )

    known = page(services, run=job.run_id)
    services.store.delete_run(parent.id)
    gone = page(services, run=job.run_id)

    assert f'<a href="/runs?run={parent.id}">parent</a>' in known
    assert "a run that was deleted" in gone


def test_what_cannot_be_compared_is_told(services: Services) -> None:
    ids = [make_run(services, str(number)).id for number in range(9)]

    unknown = page(services, compare=f"{ids[0]},nothing,{ids[1]},{ids[0]}")
    alone = page(services, compare=ids[0])
    many = page(services, compare=",".join(ids))

    assert "There is no run nothing" in unknown
    assert f'data-runs="{ids[0]},{ids[1]}"' in unknown
    assert "Two runs or more are needed" in alone
    assert "data-runs" not in alone
    assert "Up to 8 runs" in many
    assert f'data-runs="{",".join(ids[:8])}"' in many


def test_the_best_loss_and_the_differing_settings_are_shown(services: Services) -> None:
    one, two = make_run(services, "one", seed=1), make_run(services, "two", seed=2)
    measure(services, one.id, "val_loss_on", {1: 3.0, 2: 1.25})
    measure(services, two.id, "val_loss_on", {1: 2.0})

    shown = page(services, compare=f"{one.id},{two.id}")

    assert 'best">1.250 at step 2</td>' in shown
    assert "2.000 at step 1" in shown
    differing = shown[: shown.index("All settings")]
    assert ">seed</th><td>1</td><td>2</td>" in differing
    assert ">preset</th>" not in differing


def test_the_list_is_filtered_by_a_tag(services: Services) -> None:
    for name in ("one", "two"):
        services.runs.change(make_run(services, name).id, tags=[name, "both"])

    found, none = page(services, tag="one"), page(services, tag="other")

    assert ">one</a>" in found
    assert "Compare two" not in found
    assert "No run has the tag other" in none


def test_charts_name_every_curve_once(services: Services) -> None:
    run = make_run(services)
    told = re.search(r'data-plots="([^"]*)"', render_run_plots(run.id))
    assert told is not None

    plots = json.loads(unescape(told[1]))

    names = [curve["name"] for plot in plots for curve in plot["curves"]]
    assert len(names) == len(set(names))
    assert set(names) == set(METRICS)
    compared = render_compared_plots([run.id], ["odd_name", "train_loss"])
    assert "odd name" in compared
    assert "val_loss_gap" not in compared


def test_a_live_part_has_a_stamp_that_follows_the_run(services: Services) -> None:
    run = make_run(services)
    before = runs.render_runs(services, {"run": run.id})
    services.runs.change(run.id, notes="new")
    same = runs.render_runs(services, {"run": run.id})
    charts = runs.render_charts(services, {"run": run.id})
    services.store.submit("train", run_id=run.id, settings={})

    after = runs.render_runs(services, {"run": run.id})

    stamps = [re.findall(r'data-stamp="([^"]*)"', html) for html in (before, same, after)]
    assert stamps[0] == stamps[1] != stamps[2]
    assert len(stamps[0]) == 1
    assert runs.render_charts(services, {"run": run.id}) == charts


def test_a_recipe_names_every_setting_and_quotes_what_needs_it(tmp_path: Path) -> None:
    recipe = Recipe(
        name="It's <b> & $(rm)", corpus_dir=tmp_path / "my corpus's", preset="tiny",
        model=MODEL, training={**TRAINING, "learning_rate": 1e-05, "packing": False},
    )  # fmt: skip

    command, script = as_command(recipe), as_python(recipe)

    assert "--learning-rate 1e-05" in command
    assert "--training packing=false" in command
    assert "--training precision=float32" in command
    assert "--out runs/it-s-b-rm" in command
    assert "'\"'\"'s'" in command
    values = ast.parse(script)
    called = next(
        node for node in ast.walk(values)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "create_run"
    )  # fmt: skip
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in called.keywords}
    assert given == {"preset": "tiny", "model": recipe.model, "training": recipe.training}


@pytest.mark.slow
def test_the_shown_command_and_script_train_the_same_run(trained: Trained, tmp_path: Path) -> None:
    recipe = trained.client.get(f"/api/v1/runs/{trained.run_id}/recipe").json()
    command = recipe["command"].replace("python -m", f"{sys.executable} -m", 1)

    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    script = compile(recipe["python"], "script.py", "exec")
    scope: dict[str, Any] = {"__name__": "imported"}
    exec(script, scope)

    assert done.returncode == 0, done.stderr
    made = open_run(tmp_path / "runs" / "first")
    kept = trained.services.runs.get(trained.run_id).settings["resolved"]
    assert made.training is not None
    assert made.training.max_steps == TRAINING["max_steps"]
    original = open_run(trained.services.home.run_dir(trained.run_id))
    assert (made.model, made.training) == (original.model, original.training)
    assert kept["training"]["seed"] == made.training.seed
    again = create_run(
        tmp_path / "again", scope["CORPUS"], preset="tiny",
        model=original.model_choices, training=original.training_choices,
    )  # fmt: skip
    assert scope["CORPUS"] == again.corpus_path
    assert repr(original.model_choices["heads"]) in recipe["python"]


def test_a_recipe_of_a_missing_run_is_404(client: TestClient) -> None:
    answer = client.get("/api/v1/runs/nothing/recipe")

    assert (answer.status_code, "nothing" in answer.json()["detail"]) == (404, True)
