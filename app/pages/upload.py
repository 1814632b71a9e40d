"""The place to drop or choose files; ``upload.js`` sends them to the REST route."""

from app.html import Html, escape, html

UPLOAD = html("""<div class="upload" {corpus}>
<div class="row"><label class="btn {kind}" for="{prefix}-folder">Choose a folder
<input id="{prefix}-folder" type="file" data-upload="folder" webkitdirectory multiple></label>
<label class="btn" for="{prefix}-files">Choose files or a zip
<input id="{prefix}-files" type="file" data-upload="files" multiple></label>
<span class="dim small">or drop them here</span></div>
<details class="plain-details" id="{prefix}-upload-options"><summary>Options</summary>
<div class="row upload-options"><label>Text field of JSON lines
<input name="text_field" value="text" maxlength="200" id="{prefix}-text-field"></label>
<label class="check"><input type="checkbox" name="keep_duplicates" id="{prefix}-duplicates">
Keep duplicates: the same text under several paths</label></div></details>
<progress class="upload-bar" max="1" value="0" hidden aria-label="Upload progress"></progress>
<div class="row"><div class="upload-line small dim" role="status">{hint}</div>
<button type="button" class="btn tiny upload-stop push" hidden>Stop</button></div></div>""")

HINT = (
    "Text of any kind: UTF-8, UTF-16 or Latin-1; .jsonl with a document per line; .gz and .zip of "
    "them. Sub-folders are kept; hidden, empty and binary files are left out, each with a reason."
)


def render_upload(prefix: str, corpus_id: str | None = None, *, primary: bool = False) -> Html:
    """Return an upload box.

    Args:
        prefix: Beginning of the ids of its fields.
        corpus_id: Where files go; None makes a new corpus, named after the folder.
        primary: Whether this is the main thing to do on the page.
    """
    return UPLOAD.format(
        corpus="" if corpus_id is None else html('data-corpus="{}"', corpus_id),
        kind="primary" if primary else "",
        prefix=escape(prefix),
        hint=HINT,
    )


def render_report(corpus_id: str) -> Html:
    """Return the place where the report of the last upload is shown."""
    return html('<div id="upload-report" data-corpus="{}"></div>', corpus_id)
