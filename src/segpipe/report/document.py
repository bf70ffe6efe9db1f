"""The frame of every HTML page: head, style sheet, and the promise that it asks for nothing and runs nothing."""

from segpipe.report.markup import Markup, join, tag
from segpipe.report.style import style_sheet

# whatever a class or file may be called
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, content: Markup, *, before: Markup | None = None) -> str:
    """A whole page of `content`, in a column; `before` stands in front of it, such as a link that skips."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style_sheet())),
    ]
    body = (before or Markup()) + tag("div", content, class_="page")
    html = tag("html", tag("head", join(head)) + Markup("\n") + tag("body", body), lang="en")
    return f"<!doctype html>\n{html}\n"
