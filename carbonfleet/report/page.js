// Draws the charts whose specifications stand in the page; nothing is fetched and no text becomes markup.
const specs = JSON.parse(document.getElementById("charts").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const views = [];

function config() {
  const ink = dark.matches ? "#d7d9d2" : "#33372f", line = dark.matches ? "#3a3f38" : "#e2e2da";
  return {
    background: null, font: "system-ui, \"DejaVu Sans\", sans-serif", view: {stroke: null},
    axis: {labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal",
           labelFontSize: 12, titleFontSize: 12},
    legend: {labelColor: ink, titleColor: ink, labelFontSize: 12, labelLimit: 260},
    range: {category: ["#2f6f4f", "#c98a3d", "#5b7db1", "#a0503f", "#7a6aa0", "#4f9aa0", "#8a8a5c", "#b56b93"]},
  };
}

async function draw() {
  while (views.length) views.pop().finalize();
  for (const place of document.querySelectorAll("[data-chart]")) {
    const options = {actions: false, ast: true, renderer: "svg", config: config(), tooltip: {theme: dark.matches ? "dark" : "light"}};
    views.push(await window.vegaEmbed(place, specs[place.dataset.chart], options));
  }
  document.documentElement.dataset.drawn = "yes";
}

dark.addEventListener("change", draw);
draw();
