// Curves: the figures of learning as charts of what is chosen, drawn by Vega-Lite when they come into view.
function draw(figure) {
  const data = figure.data ??= JSON.parse(figure.querySelector("script").textContent);
  const chart = figure.querySelector(".chart");
  if (!chart.clientWidth) return;  // in print
  const chosen = name => figure.querySelector(`[name$=".${name}"]`)?.value ?? "";
  const boxes = [...figure.querySelectorAll("[type=checkbox]")];
  const choice = {
    arms: data.arms.map((_, i) => i).filter(i => boxes[i].checked),
    single: chosen("show") === "replicas",
    x: chosen("x") || "linear",
    y: chosen("y"),
    over: Math.max(1, parseInt(chosen("over")) || 1),
  };
  const curves = data.curves.filter(({arm, metric}) => choice.arms.includes(arm)
    && ["", data.metrics[metric].key].includes(chosen("metric")));
  const metrics = [...new Set(curves.map(curve => curve.metric))];
  const columns = chart.clientWidth < 520 ? 1 : metrics.length;
  const width = Math.floor((chart.clientWidth - 12) / columns) - 48;
  const specification = {
    columns,
    concat: metrics.map(metric => panel(data, curves, metric, choice, width)),
    spacing: {column: 48, row: 72},
    bounds: "flush",
    background: "white",
    config: {
      font: "Helvetica, Arial, sans-serif", view: {stroke: null},
      axis: {gridColor: "#e4e4e4", labelFontSize: 11, titleFontWeight: "normal", labelOverlap: true},
    },
    description: figure.querySelector("img").alt,
  };
  figure.embedded?.finalize();
  if (!metrics.length) {
    figure.classList.add("drawn");
    return chart.replaceChildren();
  }
  const options = {mode: "vega-lite", renderer: "canvas", actions: false, defaultStyle: false};
  vegaEmbed(chart, specification, options).then(embedded => {
    figure.embedded = embedded;
    figure.classList.add("drawn");
    performance.mark("chart");
  });
}

function panel(data, curves, metric, choice, width) {
  const {label, log} = data.metrics[metric];
  const isLog = choice.y ? choice.y === "log" : log;
  const values = curves.filter(curve => curve.metric === metric)
    .flatMap(curve => rowsOf(curve, data.arms[curve.arm], choice.single));
  const published = data.published.filter(curve => curve.metric === metric && choice.arms.includes(curve.arm))
    .flatMap(curve => curve.x.map((x, i) => ({x, y: curve.y[i], arm: data.arms[curve.arm].name})));
  const hasIntervals = values.some(row => row.low != null);
  const names = data.arms.map(arm => arm.name);
  const [places, most] = [[...new Set(values.map(row => row.x))], Math.ceil(width / 60)];
  const ticks = places.length <= most ? {values: places} : {tickCount: most, tickMinStep: 1};
  const hover = `hover_${metric}`;
  const of = field => choice.over > 1 ? `${field}_over` : field;
  const low = `datum.${of("low")}`;
  return {
    width,
    height: 230,
    title: {text: label, anchor: "start", frame: "group", offset: 12, fontWeight: "normal"},
    data: {values},
    transform: [
      ...(isLog ? [{filter: "datum.y > 0"}] : []),
      ...(choice.over > 1 ? [{
        window: ["y", "low", "high"].map(field => ({op: "mean", field, as: of(field)})),
        frame: [-Math.floor((choice.over - 1) / 2), Math.floor(choice.over / 2)],
        groupby: ["arm", "seed"],
        sort: [{field: "x"}],
      }] : []),
      {joinaggregate: [{op: "min", field: of("y"), as: "least"}]},
      {calculate: isLog ? `${low} == null ? null : max(${low}, datum.least / 1.5)` : low, as: "foot"},
    ],
    encoding: {
      x: {
        field: "x", type: "quantitative", title: data.x === "step" ? "step (mini-batches seen)" : data.x,
        scale: scale(choice.x), axis: {grid: false, ...ticks},
      },
      y: {field: of("y"), type: "quantitative", title: null, scale: scale(isLog ? "log" : "linear")},
      color: {field: "arm", scale: {domain: names, range: data.arms.map(arm => arm.color)}, legend: null},
    },
    layer: [
      ...(hasIntervals ? [{
        mark: {type: "area", opacity: 0.18}, encoding: {y: {field: "foot", type: "quantitative"}, y2: {field: of("high")}},
      }] : []),
      {
        mark: {type: "line", strokeWidth: choice.single ? 0.8 : 1.6},
        encoding: {
          detail: {field: "seed"},
          strokeDash: {field: "arm", scale: {domain: names, range: data.arms.map(arm => arm.dash)}, legend: null},
        },
      },
      ...(published.length ? [{
        data: {values: published}, mark: {type: "point", size: 45}, encoding: {y: {field: "y", type: "quantitative"}},
      }] : []),
      {
        params: [{name: hover, select: {type: "point", on: "pointermove", clear: "pointerout", nearest: true}}],
        mark: {type: "point", filled: true, size: 60},
        encoding: {
          opacity: {condition: {param: hover, empty: false, value: 1}, value: 0},
          tooltip: {value: {expr: told(data.x, label, of, choice.single, hasIntervals)}},
        },
      },
    ],
  };
}

// What a pointer is told, as an expression of Vega; the datum of the cell of a point is the mark of the point.
function told(x, label, of, single, hasIntervals) {
  const point = "(datum.datum || datum)";
  const number = (title, field, format) => `${JSON.stringify(title)}: format(${point}.${field}, "${format}")`;
  const numbers = [
    number(x, "x", "~f"),
    number(label, of("y"), ".4~g"),
    ...(hasIntervals ? [number("99% from", of("low"), ".4~g"), number("to", of("high"), ".4~g")] : []),
    single ? number("seed", "seed", "d") : number("n", "n", "d"),
  ];
  return `{"arm": ${point}.arm, ${numbers.join(", ")}}`;
}

function scale(type) {
  return type === "log" ? {type, nice: false} : {type, nice: false, zero: false};
}

function rowsOf(curve, arm, single) {
  const at = (y, i) => ({arm: arm.name, x: curve.first + i * curve.by, y});
  return single
    ? curve.replicas.flatMap((values, j) => values.map((y, i) => ({...at(y, i), seed: arm.seeds[j]})))
    : curve.mean.map((y, i) => ({...at(y, i), low: curve.low[i], high: curve.high[i], n: curve.n[i]}));
}

const views = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (isIntersecting && !target.isSeen) {
      target.isSeen = true;
      draw(target);
    }
  }
}, {rootMargin: "400px"});
const widths = new ResizeObserver(entries => {
  for (const {target, contentRect} of entries) {
    if (target.width && Math.abs(target.width - contentRect.width) > 1 && target.isSeen) draw(target);
    target.width = contentRect.width;
  }
});
for (const figure of document.querySelectorAll("figure.curves")) {
  views.observe(figure);
  widths.observe(figure);
  figure.closest(".sweep").addEventListener("chosen", () => figure.isSeen && draw(figure));
  figure.addEventListener("chosen", () => draw(figure));
}
