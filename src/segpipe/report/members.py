"""The page's tables about the ensemble: what was fitted, what each member brings, how alike errors are."""

from segpipe.report.charts import class_name
from segpipe.report.gather import Run
from segpipe.report.markup import Column, Markup, chance, fixed, interval, join, signed, table, tag

MOST_PAIRS = 30  # lines of the table of pairs; of many models the least alike


def fitted(run: Run) -> list[Markup]:
    """What tune images chose, and whether judge images bear it out; nothing where nothing was fitted."""
    rows = [row for row in run.selection["candidates"] if "over_best" in row]
    if not rows:
        return []
    lead = (
        "Weights and the sizes below which a region is no object were chosen on tune images. The rule best submits "
        "what is fitted only where it is significantly better, on judge images, than the best candidate without."
    )
    columns = [Column("Candidate"), Column("Against"), Column("Difference", "number")]
    columns += [Column("95\u00a0% interval", "number"), Column("Verdict"), Column("p (Holm)", "number")]
    lines = [[_word(row["name"]), _word(row["over_best"]["name"]), *_compared(row["over_best"])] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        line.append(chance(row["over_best"]["p_holm"]))
    parts = [tag("h3", "What is fitted"), tag("p", lead, class_="note")]
    parts.append(table("Fitted candidates against the best unfitted one, on judge images.", columns, lines))
    weighted = next((row for row in rows if "weights" in row), None)
    if weighted:
        pairs = zip(weighted["models"], weighted["weights"], strict=True)
        said = join((tag("span", f"{model} {fixed(weight)}", class_="word") for model, weight in pairs), ", ")
        parts.append(tag("p", Markup("Fitted weights: ") + said + ".", class_="note"))
    for row in rows:
        parts += _sizes(run, row["cleaning"]) if "cleaning" in row else []
    return parts


def _sizes(run: Run, cleaning: dict) -> list[Markup]:
    """The classes of which something is taken away or filled."""
    pairs = enumerate(zip(cleaning["min_pixels"], cleaning["fill_holes"], strict=True))
    names = run.prepared.classes
    lines = [
        [class_name(names, i), least or "all", filled or "none"] for i, (least, filled) in pairs if least or filled
    ]
    if not lines:
        return [tag("p", "No size gained anything on tune images: nothing is cleaned.", class_="note")]
    columns = [Column("Class"), Column("Regions kept from, pixels", "number"), Column("Holes filled below", "number")]
    return [table("Sizes that tune images chose; other classes are left as they are.", columns, lines)]


def drop_one(run: Run) -> list[Markup]:
    """What the mean of all models loses without each member, and without each model."""
    columns = [Column("Without"), Column("mIoU", "number"), Column("All minus that", "number")]
    columns += [Column("95\u00a0% interval", "number"), Column("Verdict")]
    lines = [
        [
            join(["member ", _word(row["without"])], "") if row["kind"] == "member" else _word(row["without"]),
            fixed(row["miou"]),
            *_compared(row["difference"]),
        ]
        for row in run.selection["drop_one"]
    ]
    note = (
        "The plain mean of all models, mean-all, against the same without a member (both its rounds) or without one "
        "model. Helps: the mean is better with it. Paired, on judge images; not corrected for the number of lines."
    )
    caption = "What each member and each model brings to mean-all, on judge images."
    return [
        tag("h3", "Does each member help?"),
        tag("p", note, class_="note"),
        table(caption, columns, lines),
    ]


def likeness(run: Run) -> list[Markup]:
    """How often two models are wrong at the same pixels, the least alike first."""
    pairs = sorted(run.selection["likeness"], key=lambda row: row["shared"])
    columns = [Column("Model"), Column("And"), Column("Shared errors", "number")]
    columns += [Column("95\u00a0% interval", "number"), Column("Kappa", "number")]
    lines = [
        [_word(row["a"]), _word(row["b"]), fixed(row["shared"]), interval(row["low"], row["high"]), fixed(row["kappa"])]
        for row in pairs[:MOST_PAIRS]
    ]
    note = (
        "Shared errors: of the judge pixels that either model gets wrong, the share that both get wrong; a mean gains "
        "most from models that share few. Kappa says the same beyond chance: 0 as chance has it, 1 always together."
    )
    more = f" The {MOST_PAIRS} least alike of {len(pairs)} pairs." if len(pairs) > MOST_PAIRS else ""
    return [
        tag("h3", "How alike are their errors?"),
        tag("p", note + more, class_="note"),
        table("Pairs of models, the least alike first.", columns, lines),
    ]


def _word(name: str) -> Markup:
    return tag("span", name, class_="word")


def _compared(difference: dict) -> list[object]:
    within = interval(difference["low"], difference["high"], sign=True)
    return [signed(difference["difference"]), within, difference["verdict"]]
