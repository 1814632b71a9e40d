"""Settings: what the files take up, how the app was set up, and light or dark."""

import time

import gradio as gr

from app.format import ago, count, escape, percent, size
from app.live_page import Page
from app.services.leftovers import OLD_LOG_S
from app.services.services import Services
from app.services.strays import KEPT_S
from app.services.system import list_devices, list_versions
from app.services.views import system as views
from app.ui import action, badge, callout, facts

PART_WORDS = {
    "corpora": "Corpora",
    "runs": "Runs with their checkpoints",
    "database": "Database, with all texts written",
    "logs": "Logs",
    "backups": "Copies of the database",
    "other": "Other files",
}
LEFTOVER_WORDS = {
    "logs": (
        f"Logs of jobs that ended more than {OLD_LOG_S // 86400} days ago",
        "What these jobs wrote cannot be read any more. Corpora, runs and texts stay.",
    ),
    "damaged": (
        "Checkpoints that were set aside as damaged",
        "They cannot be loaded. The checkpoints that can be loaded stay.",
    ),
    "temporary": (
        "Temporary files that an interrupted job left",
        "Nothing uses them.",
    ),
    "unrecorded": (
        "Files and folders of corpora that no record names",
        f"No page shows them and no build reads them; after {KEPT_S // 86400} days they go by "
        f"themselves. If the database was put back from an older copy, newer documents may be "
        f"among them.",
    ),
}
MCP_WORDS = {
    "off": "off. Set RETRO_MCP to read or write to let assistants use this app.",
    "read": "on, for reading only.",
    "write": "on, for reading and for changes.",
}
THEMES = (("auto", "As the system"), ("light", "Light"), ("dark", "Dark"))


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Settings", "/settings")
    with gr.Column(elem_id="page"):
        page.part("settings-head", lambda _query: "<h1>Settings</h1>")
        page.part("appearance", lambda _query: render_appearance())
        page.part("storage", lambda _query: render_storage(services))
        page.part("set-up", lambda _query: render_set_up(services))
        page.part("versions", lambda _query: render_versions())
    page.wire()


def render_appearance() -> str:
    """Return the choice between light and dark; the browser keeps it."""
    choices = "".join(
        f'<label><input type="radio" name="theme" value="{value}" data-theme>'
        f"<span>{escape(label)}</span></label>"
        for value, label in THEMES
    )
    return (
        '<section class="panel"><h2 id="theme-title">Appearance</h2>'
        f'<div class="choice" role="radiogroup" aria-labelledby="theme-title">{choices}</div>'
        '<p class="dim small note">Kept in this browser.</p></section>'
    )


def render_storage(services: Services) -> str:
    """Return how full the disk is, with what, and what can be removed."""
    measured = services.storage.describe()
    if measured is None:
        return (
            '<section class="panel"><h2>Storage</h2>'
            '<p class="dim">The files are being added up.</p></section>'
        )
    kept = services.installation.kept_free_bytes
    free = measured.free_bytes
    note = ""
    if free < kept:
        note = callout(
            f"The disk should have {size(kept)} free, it has {size(free)}. "
            f"Uploads are refused until there is more; delete what is not needed."
        )
    values = {
        "Taken": f'<span class="num">{size(measured.total_bytes)}</span>',
        "Free on the disk": f'<span class="num">{size(free)}</span>',
        "Kept free by uploads": f'<span class="num">{size(kept)}</span>',
        "Kept free by jobs": f'<span class="num">{size(measured.floor_bytes)}</span>',
    }
    return (
        f'<section class="panel"><h2>Storage</h2>{note}{facts(values)}'
        f"{_parts(measured)}<div class='grid2 gap-top'>"
        f"{_largest('Largest corpora', measured.largest_corpora, '/corpora?corpus=')}"
        f"{_largest('Largest runs', measured.largest_runs, '/runs?run=')}</div>"
        f"{_cleaning(measured.leftovers)}</section>"
    )


def _parts(measured: views.Storage) -> str:
    total = max(1, measured.total_bytes)
    rows = ""
    for name, num_bytes in measured.parts:
        words = PART_WORDS[name]
        if name == "runs" and measured.checkpoint_bytes:
            words += f", {size(measured.checkpoint_bytes)} of it checkpoints"
        share = num_bytes / total
        rows += (
            f'<tr><th scope="row">{escape(words)}</th>'
            f'<td class="bar"><span class="meter" aria-hidden="true">'
            f'<span style="width:{100 * share:.1f}%"></span></span></td>'
            f'<td class="num right">{size(num_bytes)}</td>'
            f'<td class="num right dim">{percent(share)}</td></tr>'
        )
    return f'<table class="list parts gap-top"><tbody>{rows}</tbody></table>'


def _largest(title: str, items: list[views.NamedBytes], address: str) -> str:
    rows = "".join(
        f'<li><a class="path" href="{address}{escape(item.id)}">{escape(item.name)}</a>'
        f'<span class="num dim">{size(item.bytes)}</span></li>'
        for item in items
    )
    shown = f'<ol class="sizes">{rows}</ol>' if rows else '<p class="dim small">None yet.</p>'
    return f"<div><h3>{escape(title)}</h3>{shown}</div>"


def _cleaning(leftovers: views.Leftovers) -> str:
    rows = ""
    for kind, found in leftovers:
        title, consequence = LEFTOVER_WORDS[kind]
        button = '<span class="dim small">nothing to remove</span>'
        if found.num:
            button = action(
                "Remove",
                "POST /api/v1/storage/clean",
                kind="tiny danger",
                body={"what": kind},
                confirm=f"{title}: {count(found.num, 'item')}, {size(found.bytes)}. "
                f"{consequence} Remove them?",
                done=f"Removed, {size(found.bytes)} are free again.",
                elem_id=f"clean-{kind}",
            )
        rows += (
            f'<tr><th scope="row">{escape(title)}</th><td class="num right">'
            f"{count(found.num, 'item')}, {size(found.bytes)}</td>"
            f'<td class="right">{button}</td></tr>'
        )
    return (
        '<h3 class="gap-top">Can be removed without losing anything</h3>'
        f'<table class="list stack plain-head"><tbody>{rows}</tbody></table>'
    )


def render_set_up(services: Services) -> str:
    """Return encoder, access, interfaces and database."""
    found = services.installation.describe()
    return (
        '<div class="grid2">'
        f"{_encoder(found.encoder)}{_access(found.access)}"
        f"{_interfaces(found.mcp)}{_database(found.database, found.backups)}</div>"
    )


def _encoder(encoder: views.Encoder) -> str:
    where = "part of this program" if encoder.is_bundled else "from RETRO_ENCODER"
    if encoder.is_here:
        state = f"{badge('ready', 'on this machine')} works without a network"
    else:
        state = (
            f"{badge('failed', 'not on this machine')} the next build downloads it, or fails "
            "without a network. Leave RETRO_ENCODER unset for the bundled one."
        )
    return (
        '<section class="panel"><h2>Encoder of new corpora</h2>'
        f'<p><code>{escape(encoder.name)}</code> <span class="dim">{where}</span></p>'
        f"<p>{state}</p></section>"
    )


def _access(access: views.Access) -> str:
    if access.has_token:
        words = "An access token is needed."
        leave = '<form method="post" action="/logout"><button class="btn">Log out</button></form>'
    else:
        words = "No access token is set: everyone who can log in to this machine can use the app."
        leave = (
            '<p class="dim small">To open it to a network, set RETRO_TOKEN and RETRO_HOST, and '
            "start it again.</p>"
        )
    return (
        f'<section class="panel"><h2>Access</h2><p>{words} It listens on '
        f"<code>{escape(access.host)}</code>.</p>{leave}</section>"
    )


def _interfaces(mcp: str) -> str:
    return (
        '<section class="panel"><h2>For programs</h2>'
        '<p>REST: <a href="/api/v1/docs">its routes</a>, '
        '<a href="/api/v1/openapi.json">openapi.json</a></p>'
        f"<p>MCP: {escape(MCP_WORDS[mcp])}</p></section>"
    )


def _database(database: views.DatabaseFacts, backups: views.Backups) -> str:
    note = callout(database.warning) if database.warning else ""
    if backups.newest_at is None:
        copies = "No copy has been made yet; the worker makes one a day."
        if database.kind != "SQLite":
            copies = "Copies are up to the server of the database."
    else:
        copies = (
            f"{count(backups.num_copies, 'copy', 'copies')}, the newest from "
            f"{ago(backups.newest_at, time.time())}: <code>{escape(backups.newest)}</code>"
        )
    return (
        f'<section class="panel"><h2>Database</h2>{note}<p>{escape(database.kind)} '
        f'{escape(database.version)}</p><p class="dim">{copies}</p></section>'
    )


def render_versions() -> str:
    """Return the devices and the versions of the libraries."""
    devices = "".join(
        f'<li><span>{escape(device.name)}</span><span class="num dim">{_memory(device)}</span></li>'
        for device in list_devices()
    )
    versions = {name: f"<code>{escape(value)}</code>" for name, value in list_versions().items()}
    return (
        '<section class="panel"><h2>Devices</h2>'
        f'<ol class="sizes">{devices}</ol></section>'
        f'<section class="panel"><h2>Versions</h2>{facts(versions)}</section>'
    )


def _memory(device: views.Device) -> str:
    memory = device.memory_bytes
    return "" if memory is None else f"{size(memory)} of memory"
