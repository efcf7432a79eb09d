// Win rates between models: a table while it fits, a canvas that scrolls beyond that.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const MOST_IN_TABLE = 24,
    FIRST = 20;

  // Blue above a half, orange below: told apart by all kinds of colour vision, and every cell has its number or its readout.
  function colour(share) {
    const dark = document.documentElement.dataset.theme === "dark",
      strength = Math.min(1, Math.abs(share - 0.5) * 2),
      base = dark ? [28, 31, 36] : [255, 255, 255],
      end = share >= 0.5 ? [29, 105, 190] : [214, 110, 20];
    const mixed = base.map((value, index) => Math.round(value + (end[index] - value) * strength * 0.9));
    const light = (0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]) / 255;
    return [`rgb(${mixed.join(",")})`, light > 0.55 ? "#111" : "#fff"];
  }
  const percent = (share) => (share === null ? "\u2013" : S.number(100 * share, 0));

  function sentence(data, names, row, column) {
    if (row === column) return names[row];
    const share = data.shares[row][column],
      questions = Array.isArray(data.questions) ? data.questions[row][column] : data.questions;
    return share === null
      ? `${names[row]} and ${names[column]} share no question`
      : `${names[row]} against ${names[column]}: ${S.number(100 * share, 1)} % of ${S.number(questions, 0)} questions`;
  }

  function asTable(data, names, order) {
    const head = h(
      "tr",
      {},
      h("td", {}),
      order.map((column, position) => h("th", { scope: "col", title: names[column] }, h("span", {}, String(position + 1)))),
    );
    const rows = order.map((row, position) =>
      h(
        "tr",
        {},
        h("th", { scope: "row", title: names[row] }, h("span", { class: "rank" }, String(position + 1)), names[row]),
        order.map((column) => {
          const cell = h(
            "td",
            { tabindex: "0", "aria-label": sentence(data, names, row, column), on: S.tips(sentence(data, names, row, column)) },
            row === column ? "" : percent(data.shares[row][column]),
          );
          if (row !== column && data.shares[row][column] !== null) [cell.style.backgroundColor, cell.style.color] = colour(data.shares[row][column]);
          return cell;
        }),
      ),
    );
    return S.scroller("Win rates in percent", { class: "names-stay" }, h("table", { class: "heat" }, h("thead", {}, head), h("tbody", {}, rows)))
      .frame;
  }

  // Cells on a canvas; arrow keys move, the line above says where one is.
  function asCanvas(data, names, order) {
    const size = order.length <= 80 ? 26 : 14,
      texts = order.map((number, position) => position + 1 + "  " + S.shown(names[number]).slice(0, 40)),
      margin = S.narrow.matches ? 190 : Math.min(280, 60 + 6.5 * Math.max(...texts.map((text) => text.length))),
      top = 34,
      side = order.length * size;
    const canvas = h("canvas", {
      tabindex: "0",
      role: "application",
      "aria-roledescription": "heat map",
      "aria-label": "Win rates; arrow keys move from cell to cell",
    });
    const labels = h("canvas", { class: "row-labels", "aria-hidden": "true" }),
      heads = h("canvas", { class: "column-labels", "aria-hidden": "true" });
    const readout = h("p", { class: "readout", role: "status", "aria-live": "polite" }, "Point at a cell, or move with the arrow keys.");
    let at = [0, 0];
    const sized = (target, width, height) => {
      const ratio = window.devicePixelRatio || 1;
      [target.width, target.height] = [width * ratio, height * ratio];
      [target.style.width, target.style.height] = [width + "px", height + "px"];
      const pen = target.getContext("2d");
      pen.scale(ratio, ratio);
      pen.font = (size > 20 ? "12px" : "10px") + " system-ui, sans-serif";
      pen.textBaseline = "middle";
      return pen;
    };
    const draw = () => {
      const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink");
      const pen = sized(canvas, side, side);
      pen.textAlign = "center";
      order.forEach((row, line) =>
        order.forEach((column, place) => {
          const share = data.shares[row][column];
          if (row === column || share === null) return;
          const [fill, text] = colour(share);
          pen.fillStyle = fill;
          pen.fillRect(place * size, line * size, size, size);
          if (size > 20) {
            pen.fillStyle = text;
            pen.fillText(percent(share), place * size + size / 2, line * size + size / 2 + 1);
          }
        }),
      );
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.strokeRect(at[1] * size + 1, at[0] * size + 1, size - 2, size - 2);
    };
    const drawLabels = () => {
      const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink"),
        rowPen = sized(labels, margin, side),
        headPen = sized(heads, side, top);
      rowPen.fillStyle = headPen.fillStyle = ink;
      headPen.textAlign = "center";
      order.forEach((_, position) => {
        rowPen.fillText(texts[position], 4, position * size + size / 2, margin - 8);
        if (size > 20 || position % 5 === 0) headPen.fillText(String(position + 1), position * size + size / 2, top / 2);
      });
    };
    const move = (line, place) => {
      at = [Math.max(0, Math.min(order.length - 1, line)), Math.max(0, Math.min(order.length - 1, place))];
      readout.textContent = S.shown(sentence(data, names, order[at[0]], order[at[1]]));
      draw();
    };
    canvas.addEventListener("mousemove", (event) => {
      const line = Math.floor(event.offsetY / size),
        place = Math.floor(event.offsetX / size);
      if (line !== at[0] || place !== at[1]) move(line, place);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      move(at[0] + step[0], at[1] + step[1]);
      const { box } = scrolled;
      box.scrollTop = Math.max(Math.min(box.scrollTop, at[0] * size), (at[0] + 2) * size + top - box.clientHeight);
      box.scrollLeft = Math.max(Math.min(box.scrollLeft, at[1] * size), (at[1] + 2) * size + margin - box.clientWidth);
    });
    const scrolled = S.scroller(
      "",
      { class: "names-stay", tall: true },
      h("div", { class: "canvas-grid" }, h("div", { class: "corner" }), heads, labels, canvas),
    );
    draw();
    drawLabels();
    return [readout, scrolled.frame];
  }

  S.views.matrix = {
    title: "Matrix",
    async render(main, { params }, stale) {
      main.append(
        h("h1", {}, "Win rates between models"),
        h(
          "p",
          { class: "lead" },
          "The share of shared questions on which the row\u2019s model has the higher figure than the column\u2019s, in percent; a tie counts half. Best models come first.",
        ),
      );
      const panels = S.index.panels.map((panel, number) => ({ ...panel, number })).filter((panel) => panel.matrix);
      if (!panels.length) {
        main.append(
          S.empty(
            "There are no two models with figures of the same questions.",
            "The figures of every question lie in questions.json beside each result.json; they are not committed, and seft-bench makes them again.",
          ),
        );
        return;
      }
      const panel = panels.find((candidate) => S.panelKey(candidate) === params.get("panel")) || panels[0];
      const data = await S.need("matrix/" + panel.number);
      if (stale()) return;
      const names = data.entries.map((number) => S.nameOf(number, data.entries));
      const ranked = data.entries
        .map((_, index) => index)
        .sort((first, second) => (S.entry(data.entries[second]).figure[0] ?? -Infinity) - (S.entry(data.entries[first]).figure[0] ?? -Infinity));
      const wanted = S.entriesOf(params.get("models"))
        .map((number) => data.entries.indexOf(number))
        .filter((index) => index >= 0);
      const everything = params.get("all") === "1" || ranked.length <= MOST_IN_TABLE;
      const order = wanted.length ? ranked.filter((index) => wanted.includes(index)) : everything ? ranked : ranked.slice(0, FIRST);
      const set = (changes) =>
        S.go(S.link("matrix", [], { panel: S.panelKey(panel), models: params.get("models"), all: params.get("all"), ...changes }), true);
      main.append(
        h(
          "div",
          { class: "filters" },
          S.panelSelect(panels, panel, (value) => set({ panel: value, models: null })),
          S.chooser(
            "Only these models",
            ranked.map((index) => data.entries[index]),
            wanted.map((index) => data.entries[index]),
            (chosen) => set({ models: chosen.map(S.keyOf).join(",") }),
            60,
          ),
        ),
      );
      if (!wanted.length && ranked.length > MOST_IN_TABLE)
        main.append(
          h(
            "p",
            {},
            everything ? `All ${ranked.length} models. ` : `The first ${FIRST} of ${ranked.length} models. `,
            h(
              "button",
              { type: "button", class: "quiet", on: { click: () => set({ all: everything ? null : "1" }) } },
              everything ? `Only the first ${FIRST}` : "Show all",
            ),
          ),
        );
      S.append(main, [order.length <= MOST_IN_TABLE ? asTable(data, names, order) : asCanvas(data, names, order)]);
      main.append(h("p", { class: "scale muted" }, "orange: the row\u2019s model loses more often; blue: it wins more often"));
    },
  };
})();
