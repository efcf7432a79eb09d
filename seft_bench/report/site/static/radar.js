// Mean figure by category, for chosen models: a radar, and the same numbers as a table.
"use strict";
(() => {
  const S = seftBench,
    { h, svg } = S;
  const MOST = 6,
    LONGEST_NAME = 18,
    RINGS = [0.25, 0.5, 0.75, 1];

  const clipped = (name) => (name.length > LONGEST_NAME ? name.slice(0, LONGEST_NAME - 1) + "\u2026" : name);

  // The scale's numbers stand between the two neighbouring axes with the lowest figures, where most of the picture is empty.
  function emptiest(categories, chosen) {
    const sums = categories.map((name) => chosen.reduce((sum, number) => sum + (new Map(S.entry(number).categories).get(name) ?? 0), 0));
    const pairs = sums.map((sum, index) => sum + sums[(index + 1) % sums.length]);
    return pairs.indexOf(Math.min(...pairs));
  }

  // A closed line; a category without a figure leaves a gap.
  function outline(categories, values, at) {
    const known = (index) => values.has(categories[index]);
    if (categories.every((_, index) => known(index)))
      return "M" + categories.map((name, index) => at(index, values.get(name)).join(",")).join("L") + "Z";
    const sides = categories.map((_, index) => [index, (index + 1) % categories.length]).filter((side) => side.every(known));
    return sides.map((side) => "M" + side.map((index) => at(index, values.get(categories[index])).join(",")).join("L")).join("");
  }

  function picture(categories, chosen, peers, high, measure) {
    const radius = S.narrow.matches ? 105 : 160,
      room = 8 * Math.max(...categories.map((name) => clipped(name).length)),
      width = 2 * (1.1 * radius + room),
      height = 2 * (1.14 * radius + 16);
    const at = (index, value) => {
      const angle = (2 * Math.PI * index) / categories.length - Math.PI / 2,
        reach = (radius * Math.max(0, value)) / high;
      return [width / 2 + reach * Math.cos(angle), height / 2 + reach * Math.sin(angle)];
    };
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart radar", role: "group", "aria-label": "Radar of categories" });
    for (const part of RINGS)
      root.append(svg("polygon", { class: "grid", points: categories.map((_, index) => at(index, high * part).join(",")).join(" ") }));
    categories.forEach((name, index) => {
      const [x, y] = at(index, high),
        [textX, textY] = at(index, high * 1.1),
        middle = Math.abs(textX - width / 2) < 20;
      S.append(root, [
        svg("line", { class: "grid", x1: width / 2, y1: height / 2, x2: x, y2: y }),
        svg(
          "text",
          {
            class: "label",
            x: textX,
            y: textY + (middle ? (textY < height / 2 ? 0 : 9) : 4),
            "text-anchor": middle ? "middle" : textX > width / 2 ? "start" : "end",
          },
          clipped(name),
          svg("title", {}, name),
        ),
      ]);
    });
    chosen.forEach((number, order) => {
      const values = new Map(S.entry(number).categories),
        look = S.look(order),
        group = svg("g", { class: "line " + look.colour });
      group.append(svg("path", { class: "area", d: outline(categories, values, at) }));
      categories.forEach((name, index) => {
        if (!values.has(name)) return;
        const text = `${S.nameOf(number, peers)}, ${name}: ${S.number(values.get(name), measure.decimals)} ${measure.unit}`;
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
    const beside = emptiest(categories, chosen);
    for (const part of RINGS) {
      const [[x, y], [nextX, nextY]] = [at(beside, high * part), at((beside + 1) % categories.length, high * part)];
      root.append(
        svg(
          "text",
          { class: "tick ring", x: (x + nextX) / 2, y: (y + nextY) / 2 + 4, "text-anchor": "middle" },
          S.number(high * part, Number.isInteger(high * part) ? 0 : 1),
        ),
      );
    }
    return root;
  }

  S.views.radar = {
    title: "Categories",
    render(main, { params }) {
      main.append(
        h("h1", {}, "Scores by category"),
        h(
          "p",
          { class: "lead" },
          `The mean figure of each category of questions, for up to ${MOST} models. A click on a name below the picture takes its model away.`,
        ),
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
          S.panelSelect(panels, panel, (value) => S.go(S.link("radar", [], { panel: value }), true)),
          S.chooser("Models", best, chosen, (numbers) => set({ models: numbers.map(S.keyOf).join(",") }), MOST),
        ),
        h(
          "div",
          { class: "beside" },
          h(
            "figure",
            {},
            h(
              "figcaption",
              {},
              measure.title,
              h("span", { class: "muted" }, measure.unit ? ` (${measure.unit}), the whole scale` : ", the whole scale"),
            ),
            picture(categories, chosen, panel.able, high, measure),
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
