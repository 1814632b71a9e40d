"""The list of a corpus's documents: found by part of the path, with chunks, removable."""

from urllib.parse import quote, urlencode

from app.format import count, size
from app.html import NOTHING, Html, html, join
from app.services.services import Services
from app.services.views.corpora import Corpus
from app.services.views.documents import Document
from app.ui import Query, action, empty
from jobs.errors import NotFoundError

DOCUMENTS_PER_PAGE = 25
LONGEST_FILTER = 200


def render_documents(services: Services, query: Query) -> Html:
    """Return a page of the documents."""
    corpus_id = query.get("corpus")
    if corpus_id is None or "document" in query:
        return NOTHING
    contains = query.get("contains", "")[:LONGEST_FILTER]
    page = _page(query.get("page", "1"))
    try:
        corpus = services.corpora.get(corpus_id)
        found = services.corpora.documents(
            corpus_id, DOCUMENTS_PER_PAGE, (page - 1) * DOCUMENTS_PER_PAGE, contains
        )
    except NotFoundError:
        return NOTHING
    if not corpus.num_documents:
        return NOTHING
    if found.documents:
        body = _table(corpus, found.documents)
    else:
        body = empty("No path holds these letters. Look for a shorter part of it.")
    return html(
        '<section class="panel"><div class="head"><h2 style="margin:0">Documents</h2>{}{}</div>'
        "{}</section>",
        _filter(corpus_id, contains),
        _pages(corpus_id, contains, page, found.total),
        body,
    )


def _page(text: str) -> int:
    return max(1, int(text[:9])) if text.isdecimal() else 1


def _filter(corpus_id: str, contains: str) -> Html:
    return html(
        '<form class="row inline-form" action="/corpora" method="get" role="search"><input '
        'type="hidden" name="corpus" value="{}"><input type="search" name="contains" '
        'value="{}" maxlength="200" id="documents-filter" placeholder="Part of the path" '
        'aria-label="Part of the path"><button type="submit" class="btn tiny">Find</button>'
        "</form>",
        corpus_id,
        contains,
    )


def _pages(corpus_id: str, contains: str, page: int, total: int) -> Html:
    last = max(1, -(-total // DOCUMENTS_PER_PAGE))
    chosen = {"contains": contains} if contains else {}
    links = [
        html(
            '<a href="/corpora?{}">{}</a>',
            urlencode({"corpus": corpus_id, **chosen, "page": target}),
            label,
        )
        for target, label in ((page - 1, "Previous"), (page + 1, "Next"))
        if 1 <= target <= last
    ]
    shown = f"{count(total, 'document')}, page {page:,} of {last:,}"
    return html(
        '<span class="push row small"><span class="dim">{}</span>{}</span>', shown, join(links)
    )


def _table(corpus: Corpus, documents: list[Document]) -> Html:
    rows = join(_row(corpus, item) for item in documents)
    return html(
        '<table class="list stack"><thead><tr><th>Path</th><th class="right">Chunks</th><th '
        'class="right">Size</th><th>Encoding</th><th></th></tr></thead><tbody>{}</tbody>'
        "</table>",
        rows,
    )


def _row(corpus: Corpus, item: Document) -> Html:
    address = document_page(corpus.id, item.path)
    tags = [
        word
        for word, is_so in (
            ("held out for validation", item.is_held_out),
            ("changed since the build", item.is_changed),
            ("not built yet", corpus.summary and item.num_chunks is None),
        )
        if is_so
    ]
    marks = join(html('<span class="tag">{}</span> ', tag) for tag in tags)
    note = html('<span class="dim small">{}</span>', item.note) if item.note else ""
    below = html('<div class="small">{}{}</div>', marks, note) if marks or note else ""
    chunks = "-" if item.num_chunks is None else f"{item.num_chunks:,}"
    remove = action(
        "Remove",
        f"DELETE {api_address(corpus.id, item.path)}",
        kind="tiny danger",
        confirm=f"Remove {item.path!r}? It leaves the index with the next build.",
        done="The document was removed.",
    )
    return html(
        '<tr><td class="wide"><a class="path" href="{}">{}</a>{}</td><td class="num right">'
        '{}</td><td class="num right">{}</td><td class="dim">{}</td><td class="right">{}</td>'
        "</tr>",
        address,
        item.path,
        below,
        chunks,
        size(item.bytes),
        item.encoding,
        remove if corpus.state != "building" else "",
    )


def api_address(corpus_id: str, path: str) -> str:
    """Return the REST address of a document."""
    return f"/api/v1/corpora/{quote(corpus_id)}/documents/{quote(path)}"


def document_page(corpus_id: str, path: str, **places: int) -> str:
    """Return the address of the page of a document, or of a place in it; not escaped."""
    values = {"corpus": corpus_id, "document": path, **places}
    return f"/corpora?{urlencode(values, quote_via=quote, safe='')}"
