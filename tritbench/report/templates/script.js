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

for (const figure of document.querySelectorAll("figure[data-chart]")) {
  figure.querySelector("select")?.addEventListener("change", (event) => {
    figure.dataset.panel = event.target.value;
    draw(figure);
  });
}

// A drawing is as wide as its place, and one in a closed section has none.
function drawOpened() {
  const waiting = document.querySelectorAll("details.part[open] figure[data-chart]:not([data-drawn])");
  for (const figure of waiting) figure.dataset.drawn = "";
  window.dispatchEvent(new Event("resize")); // those drawn before, if the window has changed since
  return Promise.all([...waiting].map(draw));
}
const parts = document.querySelectorAll("details.part");
for (const part of parts) part.addEventListener("toggle", drawOpened);

function reveal() {
  const part = document.getElementById(location.hash.slice(1))?.querySelector("details.part");
  if (part) part.open = true;
}
window.addEventListener("hashchange", reveal);
reveal();
window.addEventListener("beforeprint", () => {
  for (const part of parts) part.open = true;
});
drawOpened().then(() => {
  document.documentElement.dataset.charts = "drawn";
});

const button = document.getElementById("all");
button.hidden = false;
button.addEventListener("click", () => {
  const open = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(open));
  button.textContent = open ? "Close everything" : "Open everything";
  for (const details of document.querySelectorAll("details")) details.open = open;
});
