// The page of `dvc plots`. DVC writes a script for each plot and a <div> for each picture; here they are read as text and
// laid out anew: plots and pictures in parts of their own, the tables behind them folded at the end.

const NARROW = 900; // CSS pixels; below it a chart takes the width there is, with its legends beneath
const SPEC = /^\s*var spec = (\{.*\});$/gm; // one line of JSON

function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content); // strings become text, whatever they look like
  return made;
}

function part(title, ...content) {
  const id = `part-${document.querySelectorAll("section").length + 1}`;
  const made = element("section", { "aria-labelledby": id }, element("h2", { id, tabindex: "-1" }, title), ...content);
  document.querySelector("main").append(made);
  document.querySelector("nav ul").append(element("li", {}, element("a", { href: `#${id}` }, title)));
}

function scroller(label, ...content) {
  return element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, ...content);
}

function drawPlot({ title, $schema, ...spec }) { // without the schema no warning that version 6 reads version 5
  const name = typeof title === "string" ? title : title?.text || "Plot";
  const place = element("div");
  part(name, scroller(name, place));
  const narrow = place.clientWidth < NARROW;
  if (narrow && typeof spec.width === "number") { // a grid of panels keeps its size, and scrolls
    spec.width = place.clientWidth;
    spec.autosize = { type: "fit-x", contains: "padding" };
  }
  const below = { orient: "bottom", columns: 1, layout: { bottom: { direction: "vertical" } } };
  const config = { axis: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelSeparation: 5 }, view: { stroke: null },
    legend: { labelFontSize: 12, titleFontSize: 12, labelLimit: 320, ...(narrow ? below : {}) }, header: { labelFontSize: 13 } };
  // the editor would open a page elsewhere
  const actions = { export: true, source: false, compiled: false, editor: false };
  const mode = $schema?.includes("/vega/") ? "vega" : "vega-lite";
  return vegaEmbed(place, spec, { mode, renderer: "svg", config, actions })
    .catch(error => place.replaceWith(element("p", { role: "alert" }, `This plot cannot be drawn: ${error.message}`)));
}

function classLegend(specs) {
  const rows = specs.flatMap(spec => spec.data?.values ?? []).filter(row => "color" in row && "class" in row);
  const colors = new Map(rows.map(row => [row.class, row.color]));
  const items = [...colors].map(([name, color]) => {
    const swatch = element("span", { class: "swatch" });
    if (color) swatch.style.background = color; // whatever is no colour is ignored
    return element("li", {}, swatch, color ? name : `${name}: stays grey`);
  });
  return items.length ? [element("ul", { class: "legend", "aria-label": "Colours of the classes" }, ...items)] : [];
}

function pictures(blocks, legendOfClasses) {
  if (!blocks.length) return;
  const shown = blocks.flatMap(block => {
    const name = block.querySelector(":scope > p").textContent;
    const figures = [...block.querySelectorAll("img")].map(image => {
      const revision = image.previousElementSibling.textContent;
      const picture = element("img", { src: image.getAttribute("src"), alt: `${name} in ${revision}` });
      return element("figure", {}, element("figcaption", {}, revision), picture);
    });
    return [element("h3", {}, name), ...figures];
  });
  const mistakes = "Among the mistakes, blue is an object missed, yellow background called an object, magenta a wrong class.";
  part("Pictures", ...legendOfClasses, element("p", {}, mistakes), ...shown);
}

function table(spec) {
  const rows = spec.data.values;
  const added = ["filename", "field", "step"]; // by DVC, to every row
  const columns = [...new Set(["rev", ...rows.flatMap(Object.keys)])].filter(name => !added.includes(name));
  const line = (tag, cells) => element("tr", {}, ...cells.map(cell => element(tag, {}, String(cell ?? ""))));
  const head = element("thead", {}, line("th", columns));
  const body = element("tbody", {}, ...rows.map(row => line("td", columns.map(name => row[name]))));
  const shown = scroller(spec.title.text, element("table", {}, head, body));
  return element("details", {}, element("summary", {}, `${spec.title.text}: ${rows.length} rows`), shown);
}

function readSpecs(written) {
  // DVC writes an empty one for pictures that none of the revisions, or only some, have
  return [...written.matchAll(SPEC)].map(([, spec]) => JSON.parse(spec)).filter(spec => Object.keys(spec).length > 0);
}

function readPictures(written) {
  const inert = new DOMParser().parseFromString(written.replaceAll(SPEC, ""), "text/html");
  return [...inert.body.children].filter(block => block.querySelector("img"));
}

async function arrange() {
  const written = document.getElementById("drawn").textContent;
  const specs = readSpecs(written);
  const isTable = spec => spec.usermeta?.segpipe === "table";
  const views = specs.filter(spec => !isTable(spec)).map(drawPlot);
  pictures(readPictures(written), classLegend(specs));
  const tables = specs.filter(isTable);
  if (tables.length) part("Tables behind the plots", ...tables.map(table));
  await Promise.all(views);
  document.body.dataset.drawn = String(views.length);
}

document.addEventListener("DOMContentLoaded", arrange);
