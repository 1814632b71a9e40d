"""What building a changed corpus means for the runs that are trained on it."""

from collections.abc import Sequence

from jobs.store.rows import RunRow
from jobs.store.states import RunState
from jobs.store.store import Store

ENDED = (RunState.SUCCEEDED, RunState.CANCELED)
MOST_NAMES = 5


def unfinished_runs(store: Store, corpus_id: str) -> list[RunRow]:
    """Return the runs that began on a corpus and have not ended."""
    return [
        run
        for run in store.list_runs()
        if run.corpus_id == corpus_id and run.state not in ENDED and run.settings.get("resolved")
    ]


def resume_note(names: Sequence[str]) -> str:
    """Return what building a changed corpus means for its unfinished runs; empty without any.

    Args:
        names: What the runs are called.
    """
    if not names:
        return ""
    listed = ", ".join(repr(name) for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"Unfinished training goes on with the version it began with: {listed}{more}."
