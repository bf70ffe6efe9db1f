"""The same as a page for a browser: the curve as a chart, and the moments as a table."""

from pathlib import Path

from segpipe.report.charts import Line, line_chart, line_legend
from segpipe.report.document import document
from segpipe.report.markup import Column, Markup, join, table, tag
from segpipe.show.schedule import Schedule, eps_note, heading, moments, titles

POINTS = 400  # of a line; the moments come on top


def write_page(schedule: Schedule, out: Path) -> None:
    """Write `out`, one self-contained page."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(document(heading(schedule), tag("main", page(schedule))), encoding="utf-8", newline="\n")


def page(schedule: Schedule) -> Markup:
    """Heading, chart, table, warning."""
    names = titles(schedule)
    legend = line_legend(names) if len(names) > 1 else Markup()
    chart = line_chart("Learning rate", _curves(schedule, names), "schedule")
    notes = [tag("p", note, class_="note") for note in (eps_note(schedule),) if note]
    notes += [tag("p", tag("strong", f"Warning: {schedule.warning}."))] if schedule.warning else []
    parts = [
        tag("header", tag("h1", "Learning rate") + tag("p", f"{heading(schedule)}. {schedule.extent}.", class_="lead")),
        legend,
        tag("div", chart, style="max-width:34rem"),
        *notes,
        _table(schedule, names),
    ]
    return join(parts)


def _curves(schedule: Schedule, names: list[str]) -> list[Line]:
    """One for each rate, over the epochs that have passed, its highest value marked."""
    total, factors = schedule.total_updates, schedule.factors
    updates = sorted({*range(0, total, max(total // POINTS, 1)), *moments(schedule)})
    xs = [update / schedule.updates_per_epoch for update in updates]
    marked = factors.index(max(factors)) / schedule.updates_per_epoch
    rates = schedule.rates.values()
    return [
        Line(name, xs, [rate * factors[update] for update in updates], marked)
        for name, rate in zip(names, rates, strict=True)
    ]


def _table(schedule: Schedule, names: list[str]) -> Markup:
    columns = [Column(title, "number") for title in ("Update", "Epoch", *names)]
    rows = [
        [
            update + 1,
            update // schedule.updates_per_epoch + 1,
            *(f"{rate * schedule.factors[update]:.3g}" for rate in schedule.rates.values()),
            said,
        ]
        for update, said in moments(schedule).items()
    ]
    return table("Where the rate turns, in updates counted from 1.", [*columns, Column("What", "word")], rows)
