// Drawing: scales, axes, markers, series colours. Inline SVG, values by hover and by focus.
"use strict";
(() => {
  const S = seftBench,
    { svg } = S;
  const MARKERS = ["circle", "square", "diamond", "up", "down", "cross", "bow", "star", "hourglass"];
  // Nine colours and nine markers; the next nine lines have the same colours with other markers.
  const look = (index) => ({ colour: "series-" + (index % 9), marker: MARKERS[(index + Math.floor(index / 9)) % MARKERS.length] });
  const narrow = window.matchMedia("(max-width: 40rem)");

  function marker(kind, x, y, size) {
    const shapes = {
      square: [
        [-1, -1],
        [1, -1],
        [1, 1],
        [-1, 1],
      ],
      diamond: [
        [0, -1.3],
        [1.3, 0],
        [0, 1.3],
        [-1.3, 0],
      ],
      up: [
        [0, -1.25],
        [1.2, 1],
        [-1.2, 1],
      ],
      down: [
        [0, 1.25],
        [1.2, -1],
        [-1.2, -1],
      ],
      bow: [
        [-1.25, -1],
        [0, -0.25],
        [1.25, -1],
        [1.25, 1],
        [0, 0.25],
        [-1.25, 1],
      ],
      hourglass: [
        [-1, -1.25],
        [1, -1.25],
        [0.25, 0],
        [1, 1.25],
        [-1, 1.25],
        [-0.25, 0],
      ],
      star: Array.from({ length: 10 }, (_, corner) => {
        const reach = corner % 2 ? 0.62 : 1.5;
        return [reach * Math.sin((corner * Math.PI) / 5), -reach * Math.cos((corner * Math.PI) / 5)];
      }),
      cross: [
        [-0.4, -1.2],
        [0.4, -1.2],
        [0.4, -0.4],
        [1.2, -0.4],
        [1.2, 0.4],
        [0.4, 0.4],
        [0.4, 1.2],
        [-0.4, 1.2],
        [-0.4, 0.4],
        [-1.2, 0.4],
        [-1.2, -0.4],
        [-0.4, -0.4],
      ],
    };
    return kind === "circle"
      ? svg("circle", { cx: x, cy: y, r: size })
      : svg("polygon", { points: shapes[kind].map(([dx, dy]) => x + dx * size + "," + (y + dy * size)).join(" ") });
  }

  function ticks(low, high, count) {
    const raw = (high - low) / count || 1,
      power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw) || 10 * power;
    const found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step)
      found.push(Math.abs(value) < step * 1e-6 ? 0 : value);
    return { values: found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (String(step / power).includes(".") ? 1 : 0)) };
  }

  // Points of one x stand side by side, and those of the next x stay apart from them.
  function shifts(lines, x) {
    const places = [...new Set(lines.flatMap((line) => line.points.map((point) => point[0])))].sort((first, second) => first - second).map(x);
    const gap = Math.min(...places.slice(1).map((place, index) => place - places[index]), Infinity);
    const step = Math.min(8, (0.7 * gap) / lines.length, 64 / lines.length);
    return lines.map((_, position) => (position - (lines.length - 1) / 2) * step);
  }

  // One chart: lines of {label, dashed, strong, look, points: [[x, mean, low, high, text]], joined}.
  function chart({ title, xLabel, yLabel, lines, xTicks, reference }) {
    const width = narrow.matches ? 380 : 560,
      height = narrow.matches ? 290 : 330,
      left = 52,
      right = 16,
      top = 14,
      bottom = 44;
    const points = lines.flatMap((line) => line.points),
      xs = points.map((point) => point[0]),
      ys = points.flatMap((point) => [point[1], point[2], point[3]].filter((value) => value !== null && value !== undefined));
    if (reference) ys.push(reference[1]);
    const xHigh = Math.max(1, ...xs),
      yLow = Math.min(...ys),
      yHigh = Math.max(...ys),
      pad = (yHigh - yLow) * 0.06 || 0.5;
    const x = (value) => left + (value / (xHigh * (narrow.matches ? 1.13 : 1.07))) * (width - left - right),
      y = (value) => top + (1 - (value - yLow + pad) / (yHigh - yLow + 2 * pad)) * (height - top - bottom);
    const yTicks = ticks(yLow - pad, yHigh + pad, 5),
      xMarks = xTicks || ticks(0, xHigh, narrow.matches ? 3 : 5).values;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title, class: "chart" });
    for (const value of yTicks.values)
      S.append(picture, [
        svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        svg("text", { class: "tick", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, S.number(value, yTicks.decimals)),
      ]);
    for (const value of xMarks)
      S.append(picture, [svg("text", { class: "tick", x: x(value), y: height - bottom + 18, "text-anchor": "middle" }, S.number(value, 0))]);
    S.append(picture, [
      svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
      svg("text", { class: "label", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
      svg("text", { class: "label", transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel),
    ]);
    if (reference) picture.append(svg("line", { class: "reference", x1: left, x2: width - right, y1: y(reference[1]), y2: y(reference[1]) }));
    const shift = shifts(lines, x);
    lines.forEach((line, position) => {
      const group = svg("g", { class: lineClass(line) });
      const at = (point) => x(point[0]) + (point[0] > 0 ? shift[position] : 0);
      if (line.joined)
        group.append(
          svg("polyline", {
            points: [...(line.origin ? [line.origin] : []), ...line.points].map((point) => at(point) + "," + y(point[1])).join(" "),
          }),
        );
      for (const point of line.points) {
        if (point[2] !== null && point[2] !== undefined)
          group.append(svg("line", { class: "bar", x1: at(point), x2: at(point), y1: y(point[2]), y2: y(point[3]) }));
        const dot = svg(
          "g",
          { class: "dot", tabindex: "0", role: "img", "aria-label": point[4], on: S.tips(point[4]) },
          svg("circle", { class: "reach", cx: at(point), cy: y(point[1]), r: 11 }),
          marker(line.look.marker, at(point), y(point[1]), 4.5),
        );
        group.append(dot);
      }
      picture.append(group);
    });
    return picture;
  }

  const lineClass = (line) =>
    "line " + line.look.colour + (line.dashed ? " dashed" : "") + (line.dotted ? " dotted" : "") + (line.strong ? " strong" : "");

  function legend(lines, hidden, toggle) {
    return S.h(
      "div",
      { class: "legend", role: "group", "aria-label": "Lines shown" },
      lines.map((line) => {
        const sample = svg(
          "svg",
          { viewBox: "0 0 26 14", class: "sample", "aria-hidden": "true" },
          svg(
            "g",
            { class: lineClass(line) },
            svg("polyline", { points: "1,7 25,7" }),
            svg("g", { class: "dot" }, marker(line.look.marker, 13, 7, 4)),
          ),
        );
        return S.h(
          "button",
          { type: "button", class: "key", "aria-pressed": hidden.has(line.key) ? "false" : "true", on: { click: () => toggle(line.key) } },
          sample,
          line.label,
        );
      }),
    );
  }

  Object.assign(S, { chart, legend, look, marker, narrow });
})();
