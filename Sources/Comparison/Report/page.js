"use strict";
// Draws the charts that the report decided on: the colours of Okabe and Ito, which the colour-blind can tell apart, and a mark of
// its own for each model besides.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const page = document.documentElement;
  const styles = {
    "prefork": { light: "#b84a00", dark: "#f2935a", mark: "rect" },
    "prefork-dynamic": { light: "#8a6d00", dark: "#e3c34a", mark: "rectRot" },
    "loop": { light: "#0067a3", dark: "#6cb8ec", mark: "circle" },
    "loop-shared": { light: "#00735a", dark: "#4fc9a8", mark: "triangle" },
    "cgi": { light: "#a34a7d", dark: "#e0a1c6", mark: "crossRot" },
    "php": { light: "#5a5a5a", dark: "#b5b5b5", mark: "star" },
    "fastapi": { light: "#3d3d8f", dark: "#a9a9f0", mark: "cross" },
    "nginx": { light: "#00735a", dark: "#4fc9a8" },
    "responder": { light: "#b84a00", dark: "#f2935a" },
    "postgres": { light: "#0067a3", dark: "#6cb8ec" },
  };
  const plain = { light: "#0067a3", dark: "#6cb8ec", mark: "circle" };
  const colour = (style) => (styles[style] ?? plain)[dark.matches && !page.classList.contains("printed") ? "dark" : "light"];
  const ink = () => getComputedStyle(page).getPropertyValue("--ink").trim();
  const grid = () => getComputedStyle(page).getPropertyValue("--line").trim();

  // Whiskers from the low to the high end of an interval, and a line where something happened.
  const intervals = {
    id: "intervals",
    afterDatasetsDraw(chart) {
      const { ctx, scales: { x, y } } = chart;
      const spec = chart.$spec;
      ctx.save();
      if (spec.mark != null) {
        ctx.strokeStyle = ink();
        ctx.setLineDash([4, 4]);
        ctx.beginPath();
        const at = x.getPixelForValue(spec.mark);
        ctx.moveTo(at, y.top);
        ctx.lineTo(at, y.bottom);
        ctx.stroke();
        ctx.setLineDash([]);
      }
      ctx.strokeStyle = ink();
      ctx.lineWidth = 1.25;
      if (spec.kind === "line" || spec.kind === "bar") {
        spec.series.forEach((series, index) => {
          const meta = chart.getDatasetMeta(index);
          if (meta.hidden) return;
          series.points.forEach((point, place) => {
            if (point.low == null || point.high == null || !meta.data[place]) return;
            const at = meta.data[place].x, half = 4;
            const low = y.getPixelForValue(Math.max(point.low, y.min)), high = y.getPixelForValue(Math.min(point.high, y.max));
            ctx.beginPath();
            ctx.moveTo(at, low); ctx.lineTo(at, high);
            ctx.moveTo(at - half, low); ctx.lineTo(at + half, low);
            ctx.moveTo(at - half, high); ctx.lineTo(at + half, high);
            ctx.stroke();
          });
        });
      }
      if (spec.kind === "range") {
        spec.series[0].points.forEach((point, place) => {
          const bar = chart.getDatasetMeta(0).data[place];
          ctx.fillStyle = ink();
          ctx.beginPath();
          ctx.arc(x.getPixelForValue(point.y), bar.y, 4, 0, 2 * Math.PI);
          ctx.fill();
        });
      }
      ctx.restore();
    },
  };

  const short = (value) => Math.abs(value) >= 1000 ? `${+(value / 1000).toPrecision(3)}k` : `${+(+value).toPrecision(3)}`;
  const narrow = (label, width) => width < 500 && label.length > 18 ? label.match(/.{1,18}(?:\s|$)|\S+/g).map((part) => part.trim()) : label;

  function options(spec, width) {
    const axis = (of, more) => ({
      title: { display: true, text: of.title, color: ink() },
      type: of.labels ? "category" : of.isLogarithmic ? "logarithmic" : "linear",
      ticks: { color: ink(), autoSkip: !of.labels, maxRotation: 60, ...(of.labels ? {} : { callback: short }) },
      grid: { color: grid() },
      ...more,
    });
    const isRange = spec.kind === "range";
    const x = axis(spec.x, spec.kind === "stacked" ? { stacked: true } : {});
    const y = axis(spec.y, spec.kind === "stacked" ? { stacked: true } : {});
    if (!spec.y.isLogarithmic && !isRange) y.beginAtZero = true;
    if (!isRange && spec.kind !== "stacked") y.suggestedMax = Math.max(...spec.series.flatMap((s) => s.points.map((p) => p.high ?? p.y)));
    if (spec.y.isLogarithmic) {
      y.afterBuildTicks = (scale) => { scale.ticks = scale.ticks.filter((tick) => [1, 2, 5].includes(+tick.value.toExponential()[0])); };
    }
    if (!spec.x.labels) {
      const places = spec.series.flatMap((s) => s.points.map((p) => p.x));
      x.min = Math.min(...places);
      x.max = Math.max(...places);
      if (spec.x.isLogarithmic) {
        // The places that were measured, and no others.
        const measured = [...new Set(spec.series.filter((s) => !s.isDashed).flatMap((s) => s.points.map((p) => p.x)))];
        x.afterBuildTicks = (scale) => { scale.ticks = measured.map((value) => ({ value })); };
      }
    }
    return {
      responsive: true, maintainAspectRatio: false, animation: false, locale: "en",
      indexAxis: isRange ? "y" : "x",
      scales: isRange ? { x: { ...y, type: "linear" }, y: { ...x, ticks: { ...x.ticks, callback(value) { return narrow(this.getLabelForValue(value), width); } } } } : { x, y },
      plugins: {
        legend: { display: spec.series.length > 1 || spec.kind === "line", position: "bottom", labels: { color: ink(), usePointStyle: true, boxHeight: 7 } },
        tooltip: {
          callbacks: {
            label(item) {
              const series = spec.series[item.datasetIndex], point = series.points[item.dataIndex];
              const interval = point.low != null && point.high != null ? ` (${short(point.low)} to ${short(point.high)})` : "";
              return `${series.name}: ${short(point.y)}${interval} ${spec.y.title}`;
            },
          },
        },
      },
    };
  }

  function dataset(spec, series) {
    const shade = colour(series.style);
    const base = { label: series.name, borderColor: shade, backgroundColor: shade };
    if (spec.kind === "line") {
      const isDense = series.points.length > 20;
      return {
        // A mark on the edge is a whole mark.
        ...base, clip: false, data: series.points.map((p) => spec.x.labels ? p.y : ({ x: p.x, y: p.y })), borderWidth: 2, tension: 0, pointStyle: (styles[series.style] ?? plain).mark,
        pointRadius: series.isDashed || isDense ? 0 : 5, borderDash: series.isDashed ? [6, 4] : [],
      };
    }
    if (spec.kind === "range") return { ...base, data: series.points.map((p) => [p.low, p.high]), barThickness: 12, minBarLength: 3 };
    const each = series.style === "models";
    return { ...base, data: series.points.map((p) => p.y), maxBarThickness: 60, ...(each ? { backgroundColor: spec.x.labels.map(byTitle), borderColor: spec.x.labels.map(byTitle) } : {}) };
  }

  const titles = { "prefork": "prefork", "prefork, dynamic": "prefork-dynamic", "event loop": "loop", "event loop, shared reads": "loop-shared", "plain CGI": "cgi", "PHP-FPM": "php", "FastAPI": "fastapi" };
  const byTitle = (title) => colour(titles[title]);

  const drawn = new Map();
  function draw() {
    for (const spec of charts) {
      const canvas = document.getElementById(`chart-${spec.id}`);
      drawn.get(spec.id)?.destroy();
      const chart = new Chart(canvas, {
        type: spec.kind === "line" ? "line" : "bar",
        data: { ...(spec.x.labels ? { labels: spec.x.labels } : {}), datasets: spec.series.map((series) => dataset(spec, series)) },
        options: options(spec, canvas.parentElement.clientWidth),
        plugins: [{ id: "spec", beforeInit: (chart) => { chart.$spec = spec; } }, intervals],
      });
      drawn.set(spec.id, chart);
      canvas.dataset.drawn = "yes";
    }
  }
  draw();
  dark.addEventListener("change", draw);
  // Paper is white. The style sheet fits the charts to it.
  const print = (isPrinted) => { page.classList.toggle("printed", isPrinted); draw(); };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();
