"""The workers: when they last reported, and what their devices do."""

from app.format import duration, escape
from app.services.services import Services
from app.services.views.system import Slot, Worker
from app.ui import badge, callout, empty


def render_workers(services: Services) -> str:
    """Return the workers, when they last reported, and what their devices do."""
    workers = services.system.workers()
    note = ""
    if services.system.lacks_worker():
        note = callout("No worker is running, so jobs wait. Start the app again.")
    rows = "".join(_worker_row(worker) for worker in workers)
    table = (
        '<p class="dim small">A worker runs one job on each of its devices. When it falls silent, '
        "its job is started again once the lease has ended.</p>"
        '<table class="list stack"><thead><tr><th>Worker</th><th>State</th>'
        f"<th>Devices</th><th>Last report</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    return (
        f'<section class="panel" id="workers"><h2>Workers</h2>{note}'
        f"{table if rows else empty('No worker has reported in the last day.')}</section>"
    )


def _worker_row(worker: Worker) -> str:
    slots = "".join(_slot(item) for item in worker.slots)
    other = "" if worker.is_this_version else '<div class="dim small">another version</div>'
    state = badge("ready", "alive") if worker.alive else badge("dead", "silent")
    return (
        f'<tr><td>{escape(worker.host)}<div class="dim small num">process {worker.pid}'
        f'</div>{other}</td><td>{state}</td><td class="wide">{slots}</td>'
        f'<td class="num dim wide">reported {duration(worker.heartbeat_age)} ago</td></tr>'
    )


def _slot(item: Slot) -> str:
    job = item.job
    if job is None:
        return f'<div>{escape(item.slot)}: <span class="dim">free</span></div>'
    lease = "its lease has ended"
    if job.lease_left is not None and job.lease_left > 0:
        lease = f"lease for another {duration(job.lease_left)}"
    return (
        f'<div>{escape(item.slot)}: <a href="/jobs?job={escape(job.id)}">'
        f"{escape(job.kind)} {job.number}</a> "
        f'<span class="dim small num">process {job.pid or "-"}, {lease}</span></div>'
    )
