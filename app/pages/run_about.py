"""What a person says about a run, and the run as a command and as Python.

Nothing here changes by itself, so nobody is interrupted who types.
"""

from urllib.parse import quote

from app.html import Html, escape, html, join
from app.services.run_words import MOST_NOTE_CHARACTERS, MOST_TAG_CHARACTERS
from app.services.services import Services
from app.services.views.runs import Run


def render_about(_services: Services, run: Run) -> Html:
    """Return the name and the tags of a run, which can be changed in their place."""
    tags = join(_tag(tag) for tag in run.tags)
    return html(
        '<p class="small"><a href="/runs">All runs</a></p><div class="run-title" '
        'id="run-title" data-run="{}"><h1 id="run-heading">{}</h1><button type="button" '
        'class="btn tiny" id="rename">Rename</button></div><div class="tags" id="run-tags" '
        'style="margin-top:8px">{}<input id="add-tag" maxlength="{}" placeholder="Add a tag" '
        'aria-label="Add a tag" autocomplete="off"></div>',
        run.id,
        run.name,
        tags,
        MOST_TAG_CHARACTERS,
    )


def _tag(tag: str) -> Html:
    shown = escape(tag)
    return html(
        '<span class="tag" data-tag="{}"><a href="/runs?tag={}">{}</a><button type="button" '
        'data-untag aria-label="Remove tag {}">&times;</button></span>',
        shown,
        quote(tag, safe=""),
        shown,
        shown,
    )


def render_notes(services: Services, run: Run) -> Html:
    """Return the notes, and what trains the same run without the app."""
    recipe = services.runs.recipe(run.id)
    return html(
        '<div class="grid2"><section class="panel notes"><h2><label for="run-notes-text">'
        'Notes</label></h2><textarea id="run-notes-text" maxlength="{}" rows="3" '
        'placeholder="What is this run about, and what came of it?">\n{}</textarea><div '
        'class="row"><button type="button" class="btn" id="save-notes">Save notes</button>'
        '<span class="dim small" id="notes-state" role="status"></span></div></section>'
        '<section class="panel" style="margin:0"><h2>Train it elsewhere</h2><p class="dim '
        'small">The same settings on the same corpus, without the app.</p>{}{}</section></div>',
        MOST_NOTE_CHARACTERS,
        run.notes,
        _code("Show as command line", "run-command", recipe.command),
        _code("Show as Python", "run-python", recipe.python),
    )


def _code(title: str, elem_id: str, text: str) -> Html:
    return html(
        '<details id="{}-fold"><summary>{}</summary><pre class="code" id="{}" tabindex="0">'
        '{}</pre><button type="button" class="btn tiny" data-copy="#{}">Copy</button></details>',
        elem_id,
        title,
        elem_id,
        text,
        elem_id,
    )
