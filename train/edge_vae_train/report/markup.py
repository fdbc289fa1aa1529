"""HTML that cannot be broken by data: every text is escaped unless it was made here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Html", "bar", "bullets", "element", "join", "paragraph", "table"]

_VOID = frozenset({"img", "meta"})


class Html(str):
    """Markup, as opposed to a text that is still to be escaped."""

    __slots__ = ()


def element(name: str, /, *content: str, **attributes: str) -> Html:
    """An element; texts and attributes are escaped, `Html` is taken as it is, `_` at a name's end is dropped."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(content)}</{name}>")


def join(content: Iterable[str]) -> Html:
    """One piece of markup from several; texts are escaped.

    >>> join(["1 < 2", element("b", "a & b")])
    '1 &lt; 2<b>a &amp; b</b>'
    """
    return Html("".join(piece if isinstance(piece, Html) else escape(piece) for piece in content))


def paragraph(*content: str, **attributes: str) -> Html:
    """A paragraph."""
    return element("p", *content, **attributes)


def bullets(items: Sequence[str], *, most: int) -> Html:
    """A list of the first items; further ones are counted."""
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return element("ul", *(element("li", item) for item in [*items[:most], *more]))


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, emphasised: int | None = None, kind: str = "figures"
) -> Html:
    """A table that scrolls by itself on a narrow screen; the first column is text, the others are figures.

    `kind` is a CSS class: in `words` the last column is a text that wraps, in `sparks` the others hold pictures.
    """
    head = element("thead", element("tr", *(element("th", title, scope="col") for title in titles)))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell) for cell in row[1:]),
            **({"class_": "strong"} if i == emphasised else {}),
        )
        for i, row in enumerate(rows)
    ]
    return element("div", element("table", head, element("tbody", *body), class_=kind), class_="scroll")


def bar(part: float, text: str, *, kind: str = "") -> Html:
    """A text with a bar beside it that fills `part` of its width, from 0 to 1."""
    filled = element("i", style=f"width:{min(max(part, 0.0), 1.0):.1%}")
    return element("span", element("span", filled, class_=f"bar {kind}".strip()), element("b", text), class_="barred")
