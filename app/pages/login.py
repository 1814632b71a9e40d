"""The login and logout pages; plain HTML, because Gradio itself is behind the gate."""

from app.html import NOTHING, Html, html

PAGE = html("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title} - RETRO</title>
<link rel="icon" href="data:,">
<script src="/assets-retro/theme.js"></script>
<style>
:root{{--bg:#fbfbf9;--panel:#fff;--ink:#1d2327;--dim:#5c666f;--line:#d9dcd8;--accent:#0f766e;--warn:#a33a1a}}
.dark{{--bg:#14181a;--panel:#1b2124;--ink:#e7ebec;--dim:#9aa6ad;
--line:#36404a;--accent:#5eead4;--warn:#fbbf8a}}
*{{box-sizing:border-box}}
body{{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);
color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}}
form{{width:min(360px,calc(100vw - 32px));background:var(--panel);border:1px solid var(--line);
border-radius:12px;padding:26px}}
h1{{margin:0 0 4px;font-size:20px}}p{{margin:0 0 16px;color:var(--dim);font-size:14px}}
label{{display:block;font-size:13px;color:var(--dim);margin-bottom:4px}}
input{{width:100%;padding:9px 10px;border:1px solid var(--line);border-radius:8px;
background:var(--bg);color:var(--ink);font:inherit}}
button{{width:100%;margin-top:14px;padding:10px;border:0;border-radius:8px;
background:var(--accent);color:var(--bg);font:inherit;font-weight:650;cursor:pointer}}
:focus-visible{{outline:2px solid var(--accent);outline-offset:2px}}
.note{{color:var(--warn)}}
</style></head><body>{form}</body></html>""")
LOGIN = html("""<form method="post" action="/login">
<h1>RETRO</h1><p>Enter the access token of this server.</p>{note}
<label for="token">Access token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="next" value="{target}">
<button type="submit">Log in</button></form>""")
LOGOUT = html("""<form method="post" action="/logout">
<h1>RETRO</h1><p>This browser has to be given the access token again afterwards.</p>
<button type="submit">Log out</button></form>""")


def render_login(target: str, note: str | None) -> Html:
    """Return the login page.

    Args:
        target: Where to go after the login, an address on this host.
        note: What went wrong with the last attempt, if anything.
    """
    shown = html('<p class="note" role="alert">{}</p>', note) if note else NOTHING
    form = LOGIN.format(note=shown, target=target)
    return PAGE.format(title="Log in", form=form)


def render_logout() -> Html:
    """Return the page that asks before it ends the session."""
    return PAGE.format(title="Log out", form=LOGOUT)
