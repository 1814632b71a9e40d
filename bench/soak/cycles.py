"""Cycles of killing, and the end of all jobs after them."""

import random
import time
from collections.abc import Callable, Iterable

from bench.soak.figures import Figures
from bench.soak.kills import Kill, Killer
from bench.soak.processes import WorkerProcess, children, leftovers, wait_for
from bench.soak.promises import (
    ALL,
    check_batch,
    check_children,
    check_database,
    check_files,
    check_jobs,
    check_orphans,
)
from bench.soak.workload import (
    SEEDS,
    STEPS,
    Batch,
    Results,
    is_done,
    newest_jobs,
    repeat_ended,
    results,
    stop_something,
    submit_build,
    submit_runs,
)
from jobs.home import Home
from jobs.store.states import HELD_STATES, JobState
from jobs.store.store import Store

NOTICE_WITHIN_S = 120.0
REFERENCE_S = 600.0
DRAIN_S = 900.0
CHECK_EVERY = 25
STOP_CHANCE = 0.08
REPEAT_CHANCE = 0.5
BREATH_EVERY = 15
BREATH_S = 12.0
"""How long the killer waits, every so many cycles, for a job to succeed: some must, so that there
is something to be published twice."""
ENDS = ("interrupted", "canceled", "timed_out", "failed", "succeeded")


class Soak:
    """A folder, a database, a worker, and jobs that are killed.

    Args:
        store: The database.
        home: The folder.
        slots: How many jobs run at once.
        variants: How many different corpora there are.
        chance: Where chance comes from.
        tell: Takes sentences about the progress.
        steps: Length of each run.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        *,
        slots: int,
        variants: int,
        chance: random.Random,
        tell: Callable[[str], None],
        steps: int = STEPS,
    ) -> None:
        self.store = store
        self.home = home
        self.figures = Figures()
        self._slots = slots
        self._variants = variants
        self._chance = chance
        self._tell = tell
        self._steps = steps
        self._worker = WorkerProcess(home, store, slots=slots)
        self._killer = Killer(store, home, self._worker, chance)
        self._batches: list[Batch] = []
        self._open: list[Batch] = []
        self._references: list[Batch] = []
        self._wanted: list[Results] = []
        self._kills: list[Kill] = []
        self._unattended: dict[str, float] = {}

    def run(self, cycles: int) -> Figures:
        """Run the jobs undisturbed, then under kills, let all end, and check everything."""
        self.home.create()
        try:
            self._make_references()
            begun = time.monotonic()
            for number in range(1, cycles + 1):
                self._cycle()
                if number % BREATH_EVERY == 0:
                    self._take_breath()
                self.figures.cycles = number
                self.figures.seconds = time.monotonic() - begun
                if number % CHECK_EVERY == 0:
                    self._break(check_jobs(self.store, self._batches, all_ended=False))
                    self._tell(self._progress())
            self._drain()
        finally:
            self._worker.stop()
        self._check_all()
        return self.figures

    def _make_references(self) -> None:
        """Let one batch of each variant end that nobody disturbs."""
        self._worker.ensure_started()
        for variant in range(self._variants):
            corpus = submit_build(self.store, self.home, variant)
            self._keep(submit_runs(self.store, corpus, steps=self._steps))
        made = list(self._open)
        if not wait_for(lambda: all(is_done(self.store, b) for b in made), REFERENCE_S, 0.2):
            raise TimeoutError(f"undisturbed jobs did not end: {self.store.list_jobs()}")
        self._references = made
        self._wanted = [results(self.store, self.home, batch, self._steps) for batch in made]
        self._open.clear()
        self._tell(f"{len(made)} undisturbed batches are done")

    def _submit(self) -> None:
        """Put something of the three kinds there are into the queue."""
        variant = self._chance.randrange(self._variants)
        kind = self._chance.choice(("build", "train", "build and train"))
        seeds = SEEDS if kind == "build and train" else (self._chance.choice(SEEDS),)
        if kind == "train":
            batch = self._references[variant]
        else:
            batch = submit_build(self.store, self.home, variant)
        if kind != "build":
            batch = submit_runs(self.store, batch, seeds, steps=self._steps)
        self._keep(batch)

    def _keep(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._open.append(batch)

    def _cycle(self) -> None:
        self._worker.ensure_started()
        self._top_up()
        if self._chance.random() < STOP_CHANCE:
            stopped = stop_something(self.store, self._chance.choice(self._open), self._chance)
            self.figures.stops["stopped"] += stopped is not None
        if self._chance.random() < REPEAT_CHANCE:
            repeated = repeat_ended(self.store, self._chance.choice(self._open))
            self.figures.stops["repeated"] += repeated
        victim, moment, kill = self._killer.strike()
        self.figures.victims[victim] += 1
        if kill is not None:
            self.figures.moments[moment] += 1
            self._kills.append(kill)
        alive = children(self.home)
        self._break(check_children(alive))
        self._watch({child.job_id for child in alive})

    def _top_up(self) -> None:
        """Keep more work than slots, and look at what has ended."""
        for batch in [batch for batch in self._open if is_done(self.store, batch)]:
            self._open.remove(batch)
            self._break(self._check(batch))
        while len(self._open) <= self._slots:
            self._submit()

    def _take_breath(self) -> None:
        self._worker.ensure_started()
        for batch in self._open:
            self.figures.stops["repeated"] += repeat_ended(self.store, batch)
        before = self._num_succeeded()
        wait_for(lambda: self._num_succeeded() > before, BREATH_S, every=0.1)

    def _num_succeeded(self) -> int:
        jobs = [job for batch in self._open for job in newest_jobs(self.store, batch)]
        return sum(job.state is JobState.SUCCEEDED for job in jobs)

    def _watch(self, alive: set[str]) -> None:
        """A held job without a process is noticed in time."""
        now = time.monotonic()
        held = {
            job.id
            for batch in self._open
            for job in newest_jobs(self.store, batch)
            if job.state in HELD_STATES and job.id not in alive
        }
        self._unattended = {job_id: self._unattended.get(job_id, now) for job_id in held}
        for job_id, since in self._unattended.items():
            if now - since > NOTICE_WITHIN_S:
                self._break([f"job {job_id} has no process, unnoticed for {now - since:.0f} s"])

    def _drain(self) -> None:
        """Kill no more, and let every job end; what ended early is repeated."""
        self._tell("no more kills; all jobs are to end")
        self._worker.ensure_started()

        def all_done() -> bool:
            for batch in self._open:
                self.figures.stops["repeated"] += repeat_ended(self.store, batch)
            return all(is_done(self.store, batch) for batch in self._open)

        wait_for(all_done, DRAIN_S, every=0.3)

    def _check(self, batch: Batch) -> Iterable[str]:
        wanted = self._wanted[batch.variant]
        return check_batch(self.store, self.home, batch, wanted, self._steps)

    def _check_all(self) -> None:
        wait_for(lambda: not leftovers(self.home), 15)
        self._break(check_orphans(leftovers(self.home)))
        self._break(check_jobs(self.store, self._batches, all_ended=True))
        for batch in self._batches:
            self._break(self._check(batch))
        self._break(check_files(self.home))
        self._break(check_database(self.store))
        jobs = self.store.list_jobs(limit=ALL)
        self.figures.jobs.update(f"{job.kind} {job.state.value}" for job in jobs)
        for job in jobs:
            events = self.store.job_events(job.id)
            self.figures.attempts += sum(event.to_state == "starting" for event in events)
        self._measure_notice()

    def _measure_notice(self) -> None:
        for kill in self._kills:
            after = [e for e in self.store.job_events(kill.job_id) if e.at >= kill.at]
            if not after or after[0].to_state not in ENDS:
                continue  # it had ended just before
            seconds = after[0].at - kill.at
            target = (
                self.figures.notice_after_worker_s if kill.with_worker else self.figures.notice_s
            )
            target.append(seconds)
            if seconds > NOTICE_WITHIN_S:
                self._break([f"the end of job {kill.job_id} was noticed after {seconds:.0f} s"])

    def _break(self, found: Iterable[str]) -> None:
        for sentence in found:
            if sentence not in self.figures.broken:
                self.figures.broken.append(sentence)
                self._tell(f"BROKEN: {sentence}")

    def _progress(self) -> str:
        figures = self.figures
        done = len(self._batches) - len(self._open)
        return (
            f"cycle {figures.cycles}: {figures.seconds / figures.cycles:.2f} s each, "
            f"{done} of {len(self._batches)} batches done, {len(figures.broken)} promises broken"
        )
