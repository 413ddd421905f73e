/** Draws the charts of a load report: a classic script in the page, after uPlot. */
(() => {
  const Plot = /** @type {any} */ (globalThis).uPlot;
  const data = JSON.parse(document.getElementById("data")?.textContent ?? "{}");
  const place = /** @type {HTMLElement} */ (document.getElementById("charts"));
  const HEIGHT = 260;

  /** @typedef {{ label: string, colour: string, values: (number | null)[], dashed?: boolean }} Line */
  /**
   * @typedef {object} Chart
   * @property {string} title
   * @property {number[]} atS
   * @property {Line[]} lines
   * @property {string} unit
   * @property {boolean} [logarithmic]
   * @property {boolean} [stacked]
   */

  /** @param {any[]} points @param {string} name @returns {(number | null)[]} */
  const column = (points, name) => points.map((point) => point[name] ?? null);

  /** @returns {Chart[]} */
  function charts() {
    const { withCache, withoutCache } = data;
    const here = withCache.samples;
    const there = withoutCache.samples;
    const atS = column(here, "atS");
    const failed = [...here, ...there].some((point) => point.failed > 0);
    const counted = withCache.counted;
    // The two were counted at their own times: the second is shown at the nearest of the first.
    const loadsWithout = counted.map((/** @type {any} */ { atS }) => nearest(withoutCache, atS));
    return /** @type {Chart[]} */ ([
      {
        title: "Time to answer (logarithmic)",
        unit: "ms",
        logarithmic: true,
        atS,
        lines: [
          { label: "with the cache, p50", colour: "--memory", values: column(here, "p50Ms") },
          {
            label: "with the cache, p99",
            colour: "--memory",
            values: column(here, "p99Ms"),
            dashed: true,
          },
          { label: "without, p50", colour: "--database", values: column(there, "p50Ms") },
          {
            label: "without, p99",
            colour: "--database",
            values: column(there, "p99Ms"),
            dashed: true,
          },
        ],
      },
      ...(failed
        ? [{
          title: "Requests that failed, a second",
          unit: "",
          atS,
          lines: [
            { label: "with the cache", colour: "--memory", values: column(here, "failed") },
            { label: "without", colour: "--database", values: column(there, "failed") },
          ],
        }]
        : []),
      {
        title: "Loads asked of the database, a second",
        unit: "",
        atS: column(counted, "atS"),
        lines: [
          { label: "with the cache", colour: "--memory", values: column(counted, "loads") },
          { label: "without", colour: "--database", values: loadsWithout },
        ],
      },
      {
        title: "With the cache: where answers came from, a second",
        unit: "",
        stacked: true,
        atS: column(counted, "atS"),
        lines: [
          { label: "memory", colour: "--memory", values: column(counted, "memory") },
          { label: "Redis", colour: "--redis", values: column(counted, "redis") },
          { label: "database", colour: "--database", values: column(counted, "loads") },
        ],
      },
    ]);
  }

  /** @param {any} timeline @param {number} atS @returns {number | null} */
  function nearest({ counted }, atS) {
    let best = null;
    for (const point of counted) {
      if (best === null || Math.abs(point.atS - atS) < Math.abs(best.atS - atS)) best = point;
    }
    return best === null || Math.abs(best.atS - atS) > 1 ? null : best.loads;
  }

  /** @param {number | null} value @param {string} unit */
  function text(value, unit) {
    return value === null ? "–" : `${figure(value)} ${unit}`.trimEnd();
  }

  /** @param {number} value */
  function figure(value) {
    if (value === 0) return "0";
    return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
  }

  /**
   * The legend while nothing is pointed at, which on a phone or on paper is always.
   *
   * @param {Chart} chart
   * @param {Line} line
   */
  function summary({ unit, logarithmic = false }, { values }) {
    const known = values.filter((value) => value !== null).sort((a, b) => a - b);
    if (known.length === 0) return "nothing measured";
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    return text(logarithmic ? known[Math.floor(known.length / 2)] ?? null : mean, unit);
  }

  /** The present colours, which differ between light and dark. */
  function colours() {
    // light-dark() is resolved only in a colour, not in a custom property.
    const probe = place.appendChild(document.createElement("i"));
    const read = (/** @type {string} */ name) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    const names = [
      "--ink",
      "--soft",
      "--grid",
      "--fault",
      "--bad",
      "--memory",
      "--redis",
      "--database",
    ];
    const found = Object.fromEntries(names.map((name) => [name, read(name)]));
    probe.remove();
    return found;
  }

  /** Shades the time of the fault behind the lines, and names it in front of them. */
  function faultPlugin(/** @type {Record<string, string>} */ colour) {
    return {
      hooks: {
        drawClear: (/** @type {any} */ plot) => {
          if (data.fault === undefined) return;
          const { ctx, bbox } = plot;
          const left = plot.valToPos(data.fault.fromS, "x", true);
          const right = plot.valToPos(data.fault.toS, "x", true);
          ctx.save();
          ctx.fillStyle = colour["--fault"];
          ctx.fillRect(left, bbox.top, right - left, bbox.height);
          ctx.restore();
        },
        draw: (/** @type {any} */ plot) => {
          if (data.fault === undefined) return;
          const { ctx, bbox } = plot;
          const left = plot.valToPos(data.fault.fromS, "x", true);
          ctx.save();
          ctx.fillStyle = colour["--bad"];
          ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
          ctx.textAlign = "left";
          ctx.textBaseline = "top";
          ctx.fillText(
            data.fault.begins,
            left + 6 * devicePixelRatio,
            bbox.top + 4 * devicePixelRatio,
          );
          ctx.restore();
        },
      },
    };
  }

  /** Each line upon those below it, topmost first: what is drawn later covers what is under it. */
  function stack(/** @type {Line[]} */ lines) {
    /** @type {number[]} */
    const sums = [];
    return lines.map((line) =>
      line.values.map((value, at) => sums[at] = (sums[at] ?? 0) + (value ?? 0))
    )
      .reverse();
  }

  /** @param {any} _plot @param {number} _axis @param {number} low @param {number} high */
  function powersOfTen(_plot, _axis, low, high) {
    const first = Math.floor(Math.log10(low));
    const count = Math.ceil(Math.log10(high)) - first + 1;
    return Array.from({ length: count }, (_, at) => 10 ** (first + at))
      .filter((tick) => tick >= low && tick <= high);
  }

  function draw() {
    place.replaceChildren();
    const colour = colours();
    const axis = {
      stroke: colour["--soft"],
      grid: { stroke: colour["--grid"] },
      ticks: { show: false },
    };
    for (const chart of charts()) {
      const { title, unit, atS, lines, logarithmic, stacked } = chart;
      const card = place.appendChild(document.createElement("section"));
      card.appendChild(document.createElement("h2")).textContent = title;
      const shown = stacked ? [...lines].reverse() : lines;
      const values = stacked ? stack(lines) : lines.map((line) => line.values);
      new Plot(
        {
          width: card.clientWidth - 32,
          height: HEIGHT,
          plugins: [faultPlugin(colour)],
          legend: {
            live: true,
            markers: {
              dash: (_, at) => shown[at - 1]?.dashed ? "dashed" : "solid",
              fill: () => "none",
            },
          },
          cursor: { points: { size: 6 } },
          scales: {
            x: { time: false },
            y: logarithmic
              ? { distr: 3 }
              : { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] },
          },
          axes: [
            { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} s`) },
            {
              ...axis,
              size: 64,
              ...(logarithmic ? { splits: powersOfTen } : {}),
              values: (_, ticks) =>
                ticks.map((tick) => tick === null ? "" : `${Number(tick.toPrecision(3))} ${unit}`),
            },
          ],
          series: [
            {
              label: "at",
              value: (_, at) =>
                at === null
                  ? `any time (${logarithmic ? "median" : "mean"})`
                  : `${at.toFixed(1)} s`,
            },
            ...shown.map((line) => ({
              label: line.label,
              stroke: colour[line.colour],
              width: 2,
              points: { show: false },
              ...(line.dashed ? { dash: [6, 4] } : {}),
              ...(stacked ? { fill: colour[line.colour] } : {}),
              value: (_, __, ___, at) =>
                at === null ? summary(chart, line) : text(line.values[at] ?? null, unit),
            })),
          ],
        },
        [atS, ...values],
        card,
      );
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", draw);
})();
