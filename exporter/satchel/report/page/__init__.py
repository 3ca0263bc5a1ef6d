"""report.html: the page made from report.json alone. One file, nothing loaded from elsewhere, no script.

`verdict`, `views` and `tensors` compute what stands there, `charts` draws, `templates/` has the text around it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from satchel.report.page import charts, tensors, views, words
from satchel.report.page.reading import reading_line
from satchel.report.page.verdict import verdict

if TYPE_CHECKING:
    from markupsafe import Markup


def render_html(report: Mapping[str, Any]) -> str:
    """The whole page for a report as `satchel.report.report` makes it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from satchel.console import size

    environment = Environment(
        loader=PackageLoader("satchel.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=size, figure=words.figure, visible=words.visible, breakable=_breakable)
    parts = views.parts_of(report)
    return environment.get_template("page.html.jinja").render(
        report=report,
        parts=parts,
        verdict=verdict(report, parts),
        reading=reading_line(report),
        views=views,
        charts=charts,
        tensors=tensors,
        words=words,
    )


def _breakable(coordinate: str) -> "Markup":
    """A name that may go on in the next line after each colon."""
    from markupsafe import Markup, escape

    return escape(coordinate).replace(":", Markup(":<wbr>"))
