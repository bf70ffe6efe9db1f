"""The page's style sheet, kept in a module so that a change to it is a change of code that DVC sees."""

# Line colours are Okabe and Ito's, which stay apart for colour-blind readers, darkened for white and lightened for
# black; every line has a dash pattern of its own besides.
_LIGHT = """
  --paper: #fdfdfc; --panel: #f3f5f4; --ink: #1d252c; --soft: #55616b; --rule: #d5dbdd; --faint: #e8ecec;
  --accent: #0a6068; --bar: #3b8a90; --mark: #e4f1f0; --heat: 8 72 90; --shade: rgb(29 37 44 / .22);
  --c0: #0067a8; --c1: #c04f00; --c2: #00805c; --c3: #b0488a; --c4: #9a6a00; --c5: #2b8cc4; --c6: #6a51a3; --c7: #555;
"""
_DARK = """
  --paper: #14191d; --panel: #1c2328; --ink: #e3e8ea; --soft: #a3afb6; --rule: #38434a; --faint: #262f35;
  --accent: #6cc7cb; --bar: #4b9ea3; --mark: #1d3538; --heat: 118 196 214; --shade: rgb(227 232 234 / .22);
  --c0: #5cb3ec; --c1: #f0894a; --c2: #3fc79a; --c3: #e08bbd; --c4: #e2b23c; --c5: #93d2f7; --c6: #b3a0ea; --c7: #aaa;
"""

_PAGE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Helvetica, Arial, sans-serif; }
.page { max-width: 76rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 3rem) 4rem; }
h1, h2, h3 { font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, "Noto Serif", "Liberation Serif",
  Georgia, serif; font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: clamp(1.7rem, 1.2rem + 2vw, 2.5rem); margin: 0 0 .4rem; }
h2 { font-size: 1.5rem; margin: 0 0 .3rem; }
h3 { font-size: 1.12rem; margin: 2rem 0 .5rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.lead, .note, figcaption, caption { color: var(--soft); }
.note { font-size: .92rem; }
section { border-top: 1px solid var(--rule); margin-top: 3rem; padding-top: 1.6rem; }
a { color: var(--accent); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -99rem; padding: .5rem 1rem; background: var(--paper); }
.skip:focus { left: .5rem; top: .5rem; z-index: 1; }
header { padding-top: clamp(1.5rem, 5vw, 3.5rem); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; margin: 1.6rem 0 0; padding: 0; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: 1rem; color: var(--soft);
  font-size: .92rem; }
code { font: .9em ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
"""

_HEADLINE = """
.headline { display: grid; grid-template-columns: minmax(0, 17rem) minmax(0, 1fr); gap: 1rem 3rem; align-items: center;
  margin-top: 1.6rem; padding: 1.4rem 1.6rem; background: var(--panel); border-left: 4px solid var(--accent); }
.headline p { margin: 0; }
.score { font: 600 3.4rem/1 Charter, "Bitstream Charter", "Noto Serif", "Liberation Serif", Georgia, serif;
  font-variant-numeric: lining-nums; }
.score small { font-size: 1.1rem; font-weight: 400; color: var(--soft); }
.range { margin-top: .5rem !important; color: var(--soft); }
.headline .why p + p { margin-top: .6rem; }
@media (max-width: 44rem) { .headline { grid-template-columns: minmax(0, 1fr); padding: 1.1rem; } }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 11rem), 1fr)); gap: .8rem 1.6rem;
  margin: 1.4rem 0; }
.facts dt { color: var(--soft); font-size: .88rem; }
.facts dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
"""

_TABLES = """
/* a shade at the right edge while there is more: what lies over it moves along, and covers it at the end */
.scroll { overflow-x: auto; margin: 1rem 0 1.6rem; background:
  linear-gradient(to left, var(--paper) 40%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
.scroll > table { min-width: min(100%, 32rem); }
caption { text-align: left; caption-side: top; padding: 0 0 .5rem; position: sticky; left: 0;
  max-width: min(46rem, 100vw - 2.1rem); }
th, td { text-align: left; padding: .38rem .9rem .38rem .5rem; vertical-align: middle; font-weight: 400; }
thead th { color: var(--soft); font-size: .88rem; vertical-align: bottom; border-bottom: 1px solid var(--ink); }
tbody tr { border-bottom: 1px solid var(--faint); }
tbody th { overflow-wrap: break-word; min-width: 7rem; max-width: 20rem; }
.word { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
.chart { width: 14rem; min-width: 9rem; }
td.chart { padding-block: 0; }
.axis { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.marked { background: var(--mark); }
.marked th { font-weight: 600; }
.class { display: inline-flex; align-items: center; gap: .5em; }
.swatch { display: inline-block; flex: none; width: .85em; height: .85em; border: 1px solid var(--soft);
  border-radius: 2px; }
.grey { background: linear-gradient(90deg, #444, #bbb); }
.hatched { background: repeating-linear-gradient(135deg, #e1e1e1 0 3px, #787878 3px 6px); }
.pair { display: flex; flex-wrap: wrap; gap: 0 3rem; }
.pair .scroll { flex: 0 1 auto; }
.pair .scroll > table { min-width: 0; }
.heat { font-size: .85rem; }
.heat td { text-align: right; min-width: 2.9rem; padding: .4rem .5rem; border: 1px solid var(--paper); }
.heat .same { outline: 1.5px solid var(--ink); outline-offset: -3px; }
.heat thead th { vertical-align: bottom; padding: .3rem .4rem; }
.heat thead th > span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 10rem; }
.params { columns: 3 20rem; column-gap: 2.5rem; }
.params .scroll { break-inside: avoid; margin: 0 0 1.5rem; }
.params .scroll > table { width: 100%; min-width: 0; }
.params caption { color: var(--ink); font-weight: 600; padding-bottom: .2rem; border-bottom: 1px solid var(--ink); }
.params thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.params th, .params td { padding-block: .22rem; vertical-align: baseline; }
.params tbody th { width: 42%; }
.params code { overflow-wrap: break-word; }
.params td { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 44rem) {
  th, td { padding-right: .6rem; }
  tbody th { position: sticky; left: 0; background: var(--paper); } .marked th { background: var(--mark); }
}
"""

_CHARTS = """
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .base { stroke: var(--soft); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .dot { stroke: var(--paper); stroke-width: 1.5; }
.row { height: 1.5rem; }
.row .fill { fill: var(--bar); opacity: .55; }
.row .whisker, .row .point, .row .grid, .row .reference { vector-effect: non-scaling-stroke; }
.row .whisker { stroke: var(--ink); stroke-width: 1.5; }
.row .point { stroke: var(--accent); stroke-width: 5; }
.row .reference { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1.4rem 2rem; }
.charts figure { margin: 0; }
.charts figure:only-child { max-width: 30rem; }
.charts figcaption { color: var(--ink); font-size: .95rem; margin-bottom: .3rem; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; list-style: none; padding: 0; margin: .8rem 0 1rem;
  font-size: .92rem; }
.legend li { display: flex; align-items: center; gap: .5rem; }
.legend svg { width: 3rem; flex: none; }
"""

_IMAGES = """
.images { display: grid; gap: 1.6rem 2.2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.images.wide { grid-template-columns: minmax(0, 1fr); }
.images > figure { margin: 0; }
.panels { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem; }
@media (min-width: 52rem) { .wide .panels { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
.panels div { display: flex; flex-direction: column; gap: .15rem; font-size: .84rem; color: var(--soft); }
.panels img { display: block; width: 100%; max-width: 20rem; height: auto; background: var(--faint); }
.examples { display: grid; gap: 1.2rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
.examples > figure { margin: 0; }
.thumbs { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .4rem; align-items: end; }
.thumbs img { display: block; width: 100%; height: auto; background: var(--faint); }
.found { padding-left: 1.2rem; }
.found li { margin-bottom: .5rem; max-width: 60rem; overflow-wrap: anywhere; }
figcaption { font-size: .92rem; margin-top: .4rem; overflow-wrap: anywhere; max-width: 60rem; }
figcaption b { color: var(--ink); font-weight: 600; }
"""


def heat_classes(steps: int = 10) -> str:
    """`.h0` to `.h<steps>`, from clear to nearly half covered: more, and light text on the dark page fades."""
    return "\n".join(
        f".h{step} {{ background: rgb(var(--heat) / {0.46 * step / steps:.3f}); }}" for step in range(steps + 1)
    )


def style_sheet() -> str:
    """All of it, light and dark."""
    themes = (
        f":root {{ color-scheme: light dark; {_LIGHT} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}"
    )
    printed = "@media print { nav, .skip { display: none; } section, figure { break-inside: avoid-page; } }"
    return "\n".join([themes, _PAGE, _HEADLINE, _TABLES, _CHARTS, _IMAGES, heat_classes(), printed])
