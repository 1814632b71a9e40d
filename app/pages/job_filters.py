"""Which jobs the list shows: by state, by kind, page by page."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from app.html import NOTHING, Html, escape, html, join
from app.services.services import Services
from app.services.views.jobs import Job
from app.ui import Query
from jobs.store.states import JobState

PAGE_SIZE = 100
STATE_LINKS = (
    ("Waiting", "queued"),
    ("Starting", "starting"),
    ("Running", "running"),
    ("Succeeded", "succeeded"),
    ("Failed", "failed"),
    ("Canceled", "canceled"),
    ("Given up", "dead"),
)
KIND_LINKS = (("Builds", "build"), ("Training", "train"), ("Evaluations", "evaluate"))
LONGEST_NUMBER = 15

Numbers = Mapping[tuple[str, str], int]
"""Kind and state to how many jobs are like that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """What the address of the page asks for."""

    state: str | None = None
    """Only jobs in this state; None is all."""

    kind: str | None = None
    """Only jobs of this kind; None is all."""

    before: int | None = None
    """Only jobs with a lower number; None is the first page."""

    @classmethod
    def of(cls, query: Query) -> "Filter":
        """Read an address; what is no state or number is passed over."""
        state, before = query.get("state"), query.get("before", "")
        is_number = before.isascii() and before.isdecimal() and len(before) <= LONGEST_NUMBER
        return cls(
            state=state if state in list(JobState) else None,
            kind=query.get("kind") or None,
            before=int(before) if is_number else None,
        )

    def address(self, *, before: int | None = None) -> Html:
        """Return the address of the first page, or of the one that begins below a number."""
        values = {"state": self.state, "kind": self.kind, "before": before}
        query = urlencode({name: value for name, value in values.items() if value})
        return escape(f"/jobs?{query}" if query else "/jobs")


def find_jobs(services: Services, chosen: Filter) -> tuple[list[Job], int | None]:
    """Return the jobs of one page, and the number below which the next page begins.

    The first page of all states begins with what is at work, then what waits in the order
    in which it starts; so later pages show only what has ended.
    """
    found = services.jobs.list_jobs(
        chosen.state, PAGE_SIZE + 1, kind=chosen.kind, before=chosen.before
    )
    following = found[PAGE_SIZE - 1].number if len(found) > PAGE_SIZE else None
    found = found[:PAGE_SIZE]
    if chosen.state is not None:
        return found, following
    ended = [job for job in found if job.state.is_finished]
    if chosen.before is not None:
        return ended, following
    active = [*services.jobs.at_work(), *services.jobs.queue()]
    shown = [job for job in active if chosen.kind in (None, job.kind)]
    return [*shown, *ended], following


def render_filters(numbers: Numbers, chosen: Filter) -> Html:
    """Return links to the jobs of each state and kind, with how many there are."""
    of_kind = {key: n for key, n in numbers.items() if chosen.kind in (None, key[0])}
    of_state = {key: n for key, n in numbers.items() if chosen.state in (None, key[1])}
    states = [_link("All", of_kind, Filter(kind=chosen.kind), chosen)]
    for words, state in STATE_LINKS:
        fitting = {key: n for key, n in of_kind.items() if key[1] == state}
        if fitting or state == chosen.state:
            states.append(_link(words, fitting, Filter(state=state, kind=chosen.kind), chosen))
    kinds = [_link("All kinds", of_state, Filter(state=chosen.state), chosen)]
    for words, kind in KIND_LINKS:
        fitting = {key: n for key, n in of_state.items() if key[0] == kind}
        if fitting or kind == chosen.kind:
            kinds.append(_link(words, fitting, Filter(state=chosen.state, kind=kind), chosen))
    return html(
        '<div class="filters"><nav class="tabs" aria-label="State">{}</nav><nav class="tabs" '
        'aria-label="Kind">{}</nav></div>',
        join(states),
        join(kinds),
    )


def _link(words: str, numbers: Numbers, target: Filter, chosen: Filter) -> Html:
    is_on = (target.state, target.kind) == (chosen.state, chosen.kind)
    current = html(' aria-current="true"') if is_on else ""
    return html(
        '<a href="{}"{}>{} <span class="num">{:,}</span></a>',
        target.address(),
        current,
        words,
        sum(numbers.values()),
    )


def render_pages(chosen: Filter, following: int | None) -> Html:
    """Return the links to the newest and to older jobs."""
    links = NOTHING
    if chosen.before is not None:
        links += html('<a href="{}">Newest jobs</a>', chosen.address())
    if following is not None:
        links += html('<a href="{}">Older jobs</a>', chosen.address(before=following))
    return html('<nav class="pages" aria-label="More jobs">{}</nav>', links) if links else NOTHING
