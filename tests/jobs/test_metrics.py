"""One value per run, name and step."""

import itertools
import math

import pytest

from jobs.errors import NotFoundError
from jobs.store.metrics import thinned
from jobs.store.rows import JobRow, MetricPoint
from jobs.store.store import Store


@pytest.fixture
def job(store: Store, start) -> JobRow:
    corpus = store.create_corpus("letters", {})
    run = store.create_run("first", corpus.id, {}, 1000)
    store.submit("train", run_id=run.id, settings={})
    return start()


def record(store: Store, job: JobRow, step: int, values: dict[str, float]) -> None:
    points = [MetricPoint(name=name, step=step, value=value) for name, value in values.items()]
    store.add_points(job.run_id, points, job.lease_token, step=step)


def steps(points: list[MetricPoint]) -> list[int]:
    return [point.step for point in points]


def test_values_come_back_by_name_and_step(store: Store, job: JobRow) -> None:
    record(store, job, 2, {"train_loss": 1.5, "learning_rate": 0.1})
    record(store, job, 1, {"train_loss": 2.5})

    assert [(p.name, p.step, p.value) for p in store.metrics(job.run_id)] == [
        ("learning_rate", 2, 0.1),
        ("train_loss", 1, 2.5),
        ("train_loss", 2, 1.5),
    ]
    assert steps(store.metrics(job.run_id, name="train_loss")) == [1, 2]
    assert steps(store.metrics(job.run_id, name="train_loss", since_step=2)) == [2]


def test_a_value_measured_again_replaces_the_old_one(store: Store, job: JobRow) -> None:
    for value in (3.0, 2.0):
        record(store, job, 5, {"train_loss": value})

    assert store.metrics(job.run_id) == [MetricPoint(name="train_loss", step=5, value=2.0)]


def test_one_call_with_a_value_twice_keeps_the_last(store: Store, job: JobRow) -> None:
    points = [MetricPoint(name="train_loss", step=5, value=value) for value in (3.0, 2.0)]

    store.add_points(job.run_id, points, job.lease_token, step=5)

    assert store.metrics(job.run_id) == points[1:]


def test_the_run_shows_the_step_it_has_reached(store: Store, job: JobRow) -> None:
    store.add_points(job.run_id, [], job.lease_token, step=7)

    assert store.get_run(job.run_id).step == 7


def test_going_on_from_a_checkpoint_forgets_what_came_after(store: Store, job: JobRow) -> None:
    for step in range(1, 10):
        record(store, job, step, {"train_loss": 1.0})

    store.forget_metrics_after(job.run_id, 6, job.lease_token)

    assert steps(store.metrics(job.run_id)) == [1, 2, 3, 4, 5, 6]
    assert store.get_run(job.run_id).step == 6


def test_values_that_cannot_be_drawn_go_to_the_log(
    store: Store, job: JobRow, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"gradient_norm": math.inf, "train_loss": math.nan, "learning_rate": 0.5}

    record(store, job, 3, values)

    assert store.metrics(job.run_id) == [MetricPoint(name="learning_rate", step=3, value=0.5)]
    assert "gradient_norm at step 3 is inf" in caplog.text


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 10, 11, 99, 100, 101])
@pytest.mark.parametrize("max_points", [2, 3, 5, 10])
def test_thinning_keeps_both_ends_and_the_limit(count: int, max_points: int) -> None:
    points = [(3 * i, float(i)) for i in range(count)]

    kept = thinned(points, max_points)

    assert len(kept) <= max_points
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert set(kept) <= set(points)
    if count <= max_points:
        assert kept == points
    else:
        gaps = {after - before for (before, _), (after, _) in itertools.pairwise(kept)}
        parts = (max_points - 2) // 2
        assert max(gaps) <= 3 * (count - 1 if not parts else math.ceil((count - 2) / parts))


def test_thinning_loses_no_spike(store: Store, job: JobRow) -> None:
    values = [1.0 + 0.001 * (i % 7) for i in range(5000)]
    values[1234], values[3456] = 99.0, -5.0
    points = [MetricPoint(name="train_loss", step=i, value=value) for i, value in enumerate(values)]
    store.add_points(job.run_id, points, job.lease_token, step=5000)

    kept = store.metrics(job.run_id, max_points=50)

    assert len(kept) <= 50
    assert {points[1234], points[3456]} <= set(kept)
    assert steps(kept) == sorted(set(steps(kept)))


def test_a_flat_curve_is_thinned_to_one_point_per_part() -> None:
    kept = thinned([(step, 2.0) for step in range(1000)], 22)

    assert len(kept) == 12
    assert (kept[0], kept[-1]) == ((0, 2.0), (999, 2.0))


def test_the_newest_value_of_each_name(store: Store, job: JobRow) -> None:
    record(store, job, 5, {"a": 1.0, "b": 2.0})
    record(store, job, 9, {"a": 3.0})

    newest = store.newest_metrics(job.run_id, ["a", "b", "c"])

    assert store.metric_names(job.run_id) == ["a", "b"]
    assert {name: (point.step, point.value) for name, point in newest.items()} == {
        "a": (9, 3.0),
        "b": (5, 2.0),
    }


def test_each_name_is_thinned_by_itself(store: Store, job: JobRow) -> None:
    points = [MetricPoint(name="a", step=step, value=float(step)) for step in range(50)]
    points += [MetricPoint(name="b", step=step, value=1.0) for step in (0, 49)]
    store.add_points(job.run_id, points, job.lease_token, step=49)

    kept = store.metrics(job.run_id, max_points=8)

    assert [point.step for point in kept if point.name == "b"] == [0, 49]
    assert len(kept) == 10


def test_metrics_of_an_unknown_run_are_refused(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"There is no run abc\."):
        store.metrics("abc")
