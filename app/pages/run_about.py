"""What a person says about a run, and the run as a command and as Python.

Nothing here changes by itself, so nobody is interrupted who types.
"""

from urllib.parse import quote

from app.format import escape
from app.services.run_words import MOST_NOTE_CHARACTERS, MOST_TAG_CHARACTERS
from app.services.services import Services
from app.services.views.runs import Run


def render_about(_services: Services, run: Run) -> str:
    """Return the name and the tags of a run, which can be changed in their place."""
    tags = "".join(_tag(tag) for tag in run.tags)
    return (
        '<p class="small"><a href="/runs">All runs</a></p>'
        f'<div class="run-title" id="run-title" data-run="{escape(run.id)}">'
        f'<h1 id="run-heading">{escape(run.name)}</h1>'
        '<button type="button" class="btn tiny" id="rename">Rename</button></div>'
        f'<div class="tags" id="run-tags" style="margin-top:8px">{tags}'
        f'<input id="add-tag" maxlength="{MOST_TAG_CHARACTERS}" placeholder="Add a tag" '
        'aria-label="Add a tag" autocomplete="off"></div>'
    )


def _tag(tag: str) -> str:
    shown = escape(tag)
    return (
        f'<span class="tag" data-tag="{shown}"><a href="/runs?tag={quote(tag, safe="")}">{shown}'
        f'</a><button type="button" data-untag aria-label="Remove tag {shown}">&times;</button>'
        "</span>"
    )


def render_notes(services: Services, run: Run) -> str:
    """Return the notes, and what trains the same run without the app."""
    recipe = services.runs.recipe(run.id)
    return (
        '<div class="grid2"><section class="panel notes"><h2><label for="run-notes-text">Notes'
        f'</label></h2><textarea id="run-notes-text" maxlength="{MOST_NOTE_CHARACTERS}" rows="3" '
        'placeholder="What is this run about, and what came of it?">'
        # A browser drops a line end that directly follows the tag.
        f'\n{escape(run.notes)}</textarea><div class="row"><button type="button" class="btn" '
        'id="save-notes">Save notes</button><span class="dim small" id="notes-state" '
        'role="status"></span></div></section>'
        '<section class="panel" style="margin:0"><h2>Train it elsewhere</h2>'
        '<p class="dim small">The same settings on the same corpus, without the app.</p>'
        f"{_code('Show as command line', 'run-command', recipe.command)}"
        f"{_code('Show as Python', 'run-python', recipe.python)}</section></div>"
    )


def _code(title: str, elem_id: str, text: str) -> str:
    return (
        f'<details id="{elem_id}-fold"><summary>{title}</summary>'
        f'<pre class="code" id="{elem_id}" tabindex="0">{escape(text)}</pre>'
        f'<button type="button" class="btn tiny" data-copy="#{elem_id}">Copy</button></details>'
    )
