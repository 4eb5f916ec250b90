"""The provider's pages for people: the user picker, a refusal, and the goodbye after signing out.

Plain HTML without script; the style sheet is a file of its own, so that the content security policy allows nothing
inline. Every value that came with the request is escaped.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from local.identity.people import BUILT_IN, MAX_EMAIL, MAX_NAME, Person

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def picker(action: str, style: str, request: Mapping[str, str], *, problem: str = "") -> str:
    """The page that asks who signs in. `request` are the authorization request's parameters, sent on unchanged."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in request.items()
        if name not in ("login_hint", "login_name", "prompt")
    )
    form = f'<form method="get" action="{escape(action)}">{hidden}'
    people = "".join(f"<li>{form}{_person_button(person)}</form></li>" for person in BUILT_IN)
    alert = f'<p class="error" role="alert">{escape(problem)}</p>' if problem else ""
    name, email = escape(request.get("login_name", "")), escape(request.get("login_hint", ""))
    return _page(
        "Choose who you are",
        style,
        f"""<h1>Choose who you are</h1>
<p>This machine has its own sign-in. Nobody has a password here.</p>{alert}
<ul>{people}</ul>
<h2 id="other">Another person</h2>
{form}
<label for="name">Display name</label>
<input id="name" name="login_name" required maxlength="{MAX_NAME}" autocomplete="name" value="{name}">
<label for="email">E-mail address</label>
<input id="email" name="login_hint" type="email" required maxlength="{MAX_EMAIL}" autocomplete="email" value="{email}">
<button>Continue</button></form>""",
    )


def refusal(style: str, reason: str) -> str:
    """The page for a request that may not be answered by a redirect (RFC 6749 4.1.2.1)."""
    return _page(
        "Sign-in failed",
        style,
        f"<h1>Sign-in failed</h1><p class='error' role='alert'>{escape(reason)}</p>"
        "<p>Go back to the page that you came from and try again.</p>",
    )


def goodbye(style: str) -> str:
    """The page after signing out, where no address to return to was given."""
    return _page("Signed out", style, "<h1>Signed out</h1><p>You can close this page.</p>")


def _person_button(person: Person) -> str:
    return (
        f'<button class="person" name="login_hint" value="{escape(person.email)}">'
        f'<span class="initials" aria-hidden="true">{escape(person.name[0])}</span>'
        f'<span>{escape(person.name)}<span class="address">{escape(person.email)}</span></span></button>'
    )


def _page(title: str, style: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · Parley</title>
<link rel="stylesheet" href="{escape(style)}">
</head>
<body>
<main>{body}</main>
</body>
</html>
"""
