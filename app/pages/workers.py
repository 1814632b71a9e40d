"""The workers: when they last reported, and what their devices do."""

from app.format import duration
from app.html import Html, html, join
from app.services.services import Services
from app.services.views.system import Slot, Worker
from app.ui import badge, callout, empty


def render_workers(services: Services) -> Html:
    """Return the workers, when they last reported, and what their devices do."""
    workers = services.system.workers()
    note = ""
    if services.system.lacks_worker():
        note = callout("No worker is running, so jobs wait. Start the app again.")
    rows = join(_worker_row(worker) for worker in workers)
    table = html(
        '<p class="dim small">A worker runs one job on each of its devices. When it falls '
        'silent, its job is started again once the lease has ended.</p><table class="list '
        'stack"><thead><tr><th>Worker</th><th>State</th><th>Devices</th><th>Last report</th>'
        "</tr></thead><tbody>{}</tbody></table>",
        rows,
    )
    return html(
        '<section class="panel" id="workers"><h2>Workers</h2>{}{}</section>',
        note,
        table if rows else empty("No worker has reported in the last day."),
    )


def _worker_row(worker: Worker) -> Html:
    slots = join(_slot(item) for item in worker.slots)
    other = "" if worker.is_this_version else html('<div class="dim small">another version</div>')
    state = badge("ready", "alive") if worker.alive else badge("dead", "silent")
    return html(
        '<tr><td>{}<div class="dim small num">process {}</div>{}</td><td>{}</td><td '
        'class="wide">{}</td><td class="num dim wide">reported {} ago</td></tr>',
        worker.host,
        worker.pid,
        other,
        state,
        slots,
        duration(worker.heartbeat_age),
    )


def _slot(item: Slot) -> Html:
    job = item.job
    if job is None:
        return html('<div>{}: <span class="dim">free</span></div>', item.slot)
    lease = "its lease has ended"
    if job.lease_left is not None and job.lease_left > 0:
        lease = f"lease for another {duration(job.lease_left)}"
    return html(
        '<div>{}: <a href="/jobs?job={}">{} {}</a> <span class="dim small num">process {}, '
        "{}</span></div>",
        item.slot,
        job.id,
        job.kind,
        job.number,
        job.pid or "-",
        lease,
    )
