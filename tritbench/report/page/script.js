"use strict";
// Text and lines take the page's colour, so that dark mode and print need no second drawing.
const INK = "currentColor";
const CONFIG = {
  background: null,
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: {
    labelColor: INK, titleColor: INK, domainColor: INK, tickColor: INK, gridColor: INK,
    gridOpacity: 0.12, domainOpacity: 0.4, tickOpacity: 0.4, labelOpacity: 0.85,
    labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, titlePadding: 8,
  },
  legend: { labelColor: INK, titleColor: INK, labelFontSize: 12, columns: 3 },
  text: { color: INK },
};
const OPTIONS = {
  renderer: "svg",
  actions: false,
  defaultStyle: false,
  ast: true, // expressions are interpreted: the page allows no code made at run time
  tooltip: { disableDefaultStyle: true },
};
const charts = JSON.parse(document.getElementById("charts").textContent);

async function draw(figure) {
  const { spec, panels } = charts[figure.dataset.chart];
  const panel = panels[Number(figure.dataset.panel)];
  const place = figure.querySelector(".drawing");
  place.setAttribute("aria-label", panel.label);
  figure.querySelector("figcaption").textContent = panel.caption;
  const whole = {
    ...(panel.spec ?? spec),
    width: "container",
    autosize: { type: "fit-x", contains: "padding" },
    datasets: { rows: panel.rows },
    config: CONFIG,
  };
  // Inside: Vega gives the element that it draws into a role and a label of its own.
  const drawn = await vegaEmbed(place.firstElementChild, whole, OPTIONS);
  figure.finalize?.();
  figure.finalize = drawn.finalize;
}

const figures = [...document.querySelectorAll("figure[data-chart]")];
for (const figure of figures) {
  figure.querySelector("select")?.addEventListener("change", (event) => {
    figure.dataset.panel = event.target.value;
    draw(figure);
  });
}
Promise.all(figures.map(draw)).then(() => {
  document.documentElement.dataset.charts = "drawn";
});

const button = document.getElementById("tables");
button.hidden = false;
button.addEventListener("click", () => {
  const open = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(open));
  button.textContent = open ? "Hide all tables" : "Show all tables";
  for (const details of document.querySelectorAll("details.data")) details.open = open;
});
