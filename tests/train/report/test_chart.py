"""Charts and markup."""

from __future__ import annotations

import numpy as np

from edge_vae_train.report.chart import Chart, thinned
from edge_vae_train.report.markup import bar, bullets, element, join, table


def test_texts_and_attributes_are_escaped_and_markup_is_not_escaped_twice() -> None:
    inner = element("b", "a < b & c")
    assert inner == "<b>a &lt; b &amp; c</b>"
    assert element("p", inner, title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"><b>a &lt; b &amp; c</b></p>'
    assert join(["<", inner]).startswith("&lt;<b>")


def test_a_table_escapes_its_cells() -> None:
    html = table(("<a>", "b"), [("<script>", "1")])
    assert "<script>" not in html
    assert '<th scope="row">&lt;script&gt;</th><td>1</td>' in html


def test_a_list_counts_what_it_leaves_out() -> None:
    assert bullets(["a", "b", "c"], most=2) == "<ul><li>a</li><li>b</li><li>and 1 more</li></ul>"
    assert "more" not in bullets(["a", "b"], most=2)


def test_a_bar_stays_within_its_width() -> None:
    assert "width:100.0%" in bar(3.0, "3")
    assert "width:0.0%" in bar(-1.0, "-1")


def test_a_line_lies_where_its_axes_put_it() -> None:
    chart = Chart((0, 10), (0, 2), x_label="x", y_label="y")
    chart.line(np.array([0.0, 5.0, 10.0]), np.array([0.0, 1.0, 5.0]), "a")
    assert 'points="0.0,1000.0 500.0,500.0 1000.0,0.0"' in chart.html()


def test_an_axis_without_extent_does_not_divide_by_zero() -> None:
    chart = Chart((1, 1), (3, 3), x_label="x", y_label="y")
    chart.dots(np.array([1.0]), np.array([3.0]), "a")
    assert "M500.0,500.0h.01" in chart.html()


def test_a_long_line_keeps_its_ends_and_its_peak() -> None:
    x = np.arange(10_000.0)
    y = np.sin(x)
    y[7_003] = 50.0
    short_x, short_y = thinned(x, y)
    assert len(short_x) <= 400
    assert short_y.max() == 50.0
    assert short_x[short_y.argmax()] == 7_003
    assert (np.diff(short_x) > 0).all()
