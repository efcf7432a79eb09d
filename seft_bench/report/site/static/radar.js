// Mean figure by category, for chosen models: a radar, and the same numbers as a table.
"use strict";
(() => {
  const S = seftBench,
    { h, svg } = S;
  const MOST = 6;

  function picture(categories, chosen, peers, high, decimals) {
    const size = 460,
      top = 56,
      middle = size / 2,
      radius = 160;
    const at = (index, value) => {
      const angle = (2 * Math.PI * index) / categories.length - Math.PI / 2,
        reach = (radius * Math.max(0, value ?? 0)) / high;
      return [middle + reach * Math.cos(angle), middle + reach * Math.sin(angle)];
    };
    const root = svg("svg", {
      viewBox: `0 ${top - 20} ${size} ${size - 2 * top + 40}`,
      class: "chart radar",
      role: "group",
      "aria-label": "Radar of categories",
    });
    for (const part of [0.25, 0.5, 0.75, 1])
      root.append(svg("polygon", { class: "grid", points: categories.map((_, index) => at(index, high * part).join(",")).join(" ") }));
    categories.forEach((name, index) => {
      const [x, y] = at(index, high),
        [textX, textY] = at(index, high * 1.14);
      S.append(root, [
        svg("line", { class: "grid", x1: middle, y1: middle, x2: x, y2: y }),
        svg(
          "text",
          { class: "label", x: textX, y: textY + 4, "text-anchor": Math.abs(textX - middle) < 20 ? "middle" : textX > middle ? "start" : "end" },
          name,
        ),
      ]);
    });
    root.append(svg("text", { class: "tick", x: middle + 5, y: middle - radius + 13 }, S.number(high, 0)));
    chosen.forEach((number, order) => {
      const values = new Map(S.entry(number).categories),
        look = S.look(order),
        group = svg("g", { class: "line " + look.colour });
      group.append(svg("polygon", { class: "area", points: categories.map((name, index) => at(index, values.get(name)).join(",")).join(" ") }));
      categories.forEach((name, index) => {
        if (!values.has(name)) return;
        const text = `${S.nameOf(number, peers)}, ${name}: ${S.number(values.get(name), decimals)}`;
        group.append(
          svg(
            "g",
            { class: "dot", tabindex: "0", role: "img", "aria-label": text, on: S.tips(text) },
            S.marker(look.marker, ...at(index, values.get(name)), 4),
          ),
        );
      });
      root.append(group);
    });
    return root;
  }

  S.views.radar = {
    title: "Categories",
    render(main, { params }) {
      main.append(
        h("h1", {}, "Scores by category"),
        h("p", { class: "lead" }, `The mean figure of each category of questions, for up to ${MOST} models.`),
      );
      const panels = S.index.panels
        .map((panel) => ({ ...panel, able: panel.entries.filter((number) => S.entry(number).categories.length > 2) }))
        .filter((panel) => panel.able.length);
      if (!panels.length) {
        main.append(S.empty("No result here has figures by category.", "Suites of MT-Bench\u2019s kind have them."));
        return;
      }
      const panel = panels.find((candidate) => S.panelKey(candidate) === params.get("panel")) || panels[0];
      const best = [...panel.able].sort((first, second) => (S.entry(second).figure[0] ?? -Infinity) - (S.entry(first).figure[0] ?? -Infinity));
      const asked = S.entriesOf(params.get("models"))
        .filter((number) => panel.able.includes(number))
        .slice(0, MOST);
      const chosen = asked.length ? asked : best.slice(0, 3);
      const categories = [...new Set(chosen.flatMap((number) => S.entry(number).categories.map(([name]) => name)))].sort();
      const measure = S.measureOf(S.entry(chosen[0])),
        high =
          measure.unit === "1-10"
            ? 10
            : measure.unit === "%"
              ? 100
              : Math.max(...chosen.flatMap((number) => S.entry(number).categories.map(([, value]) => value)));
      const set = (changes) => S.go(S.link("radar", [], { panel: S.panelKey(panel), ...changes }), true);
      const lines = chosen.map((number, order) => ({ key: String(number), label: S.nameOf(number, panel.able), look: S.look(order) }));
      const table = {
        title: "The same as numbers",
        columns: [
          { key: "category", title: "category", kind: "text" },
          ...lines.map((line) => ({ key: line.key, title: line.label, kind: "number", decimals: measure.decimals })),
        ],
        rows: categories.map((name) => ({
          block: "",
          entry: null,
          cells: [[name], ...chosen.map((number) => [new Map(S.entry(number).categories).get(name) ?? null])],
        })),
      };
      main.append(
        h(
          "div",
          { class: "filters" },
          S.select(
            "Suite, decoding, judge",
            panels.map((candidate) => [S.panelKey(candidate), S.panelKey(candidate)]),
            S.panelKey(panel),
            (value) => S.go(S.link("radar", [], { panel: value }), true),
          ),
          S.chooser("Models", best, chosen, (numbers) => set({ models: numbers.map(S.keyOf).join(",") }), MOST),
        ),
        h(
          "div",
          { class: "beside" },
          h(
            "figure",
            {},
            picture(categories, chosen, panel.able, high, measure.decimals),
            S.legend(lines, new Set(), (key) =>
              set({
                models: chosen
                  .filter((number) => String(number) !== key)
                  .map(S.keyOf)
                  .join(","),
              }),
            ),
          ),
          S.table(table, () => true, { column: -1, downwards: false }).element,
        ),
      );
    },
  };
})();
