// Two models question by question: the difference d of each, sums by category, the furthest apart first.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const TIE = 1e-9;
  const ORDERS = [
    ["apart", "furthest apart first"],
    ["first", "first is better, most first"],
    ["second", "second is better, most first"],
    ["suite", "the suite\u2019s order"],
  ];
  const chosen = { order: "apart" };

  function pairs(data, first, second) {
    const one = data.figures.get(first) || [],
      two = data.figures.get(second) || [];
    return data.questions
      .map((question) => ({ question, first: one[question.index], second: two[question.index] }))
      .filter((row) => row.first !== null && row.first !== undefined && row.second !== null && row.second !== undefined)
      .map((row) => ({ ...row, d: row.first - row.second }));
  }

  function sums(rows) {
    const total = (key) => rows.reduce((sum, row) => sum + row[key], 0);
    return {
      n: rows.length,
      first: total("first") / rows.length,
      second: total("second") / rows.length,
      d: total("d") / rows.length,
      sum: total("d"),
      wins: rows.filter((row) => row.d > TIE).length,
      losses: rows.filter((row) => row.d < -TIE).length,
    };
  }

  function usualPair(numbers) {
    const own = numbers.filter((number) => !S.entry(number).other);
    const other = numbers.find(
      (number) =>
        S.entry(number).other &&
        own.some((mine) => S.entry(mine).model === S.entry(number).model && S.entry(mine).decoding === S.entry(number).decoding),
    );
    if (other !== undefined)
      return [own.find((mine) => S.entry(mine).model === S.entry(other).model && S.entry(mine).decoding === S.entry(other).decoding), other];
    const foreign = numbers.find((number) => S.entry(number).other);
    const ranked = [...own].sort((first, second) => (S.entry(second).figure[0] ?? -Infinity) - (S.entry(first).figure[0] ?? -Infinity)),
      first = ranked[0] ?? numbers[0];
    return [
      first,
      foreign ??
        ranked.find(
          (number) => number !== first && S.entry(number).decoding === S.entry(first).decoding && S.entry(number).judge === S.entry(first).judge,
        ) ??
        numbers.find((number) => number !== first),
    ];
  }

  function categoryTable(rows, names, measure) {
    const groups = new Map();
    for (const row of rows) {
      const name = row.question.category || "all";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(row);
    }
    const line = (name, found) => {
      const total = sums(found);
      return {
        block: "",
        entry: null,
        cells: [
          [name],
          [total.n],
          [total.first * measure.scale],
          [total.second * measure.scale],
          [total.d * measure.scale],
          [total.sum * measure.scale],
          [total.wins],
          [total.losses],
          [total.n - total.wins - total.losses],
        ],
      };
    };
    const column = (key, title, kind, decimals) => ({ key, title, kind, decimals });
    const every = [...groups].sort(([first], [second]) => first.localeCompare(second)).map(([name, found]) => line(name, found));
    return {
      title: "By category",
      columns: [
        column("category", "category", "text"),
        column("n", "questions", "number"),
        column("first", "first", "number", measure.decimals),
        column("second", "second", "number", measure.decimals),
        column("d", "mean d", "difference", measure.decimals),
        column("sum", "sum of d", "difference", measure.decimals),
        column("wins", "first better", "number"),
        column("losses", "second better", "number"),
        column("ties", "ties", "number"),
      ],
      rows: groups.size > 1 ? [...every, line("all", rows)] : every,
      notes: [
        `first: ${names[0]}; second: ${names[1]}; d: first minus second on the same question, in ${measure.unit || "the figure\u2019s unit"}.`,
        "Whether a difference is more than chance is for seft-bench check to say: it has the intervals and the test.",
      ],
    };
  }

  S.views.difference = {
    title: "Difference",
    async render(main, { parts, params }, stale) {
      main.append(
        h("h1", {}, "Difference of two"),
        h("p", { class: "lead" }, "Two models, checkpoints or runs on the same questions. Blue bars: the first is better; orange: the second."),
      );
      const able = S.index.suites
        .map((_, number) => number)
        .filter((number) => S.index.entries.filter((item) => item.suite === number).length > 1 && S.index.suites[number].questions);
      const number = able.find((candidate) => S.index.suites[candidate].slug === parts[0]) ?? able[0];
      if (number === undefined) {
        main.append(
          S.empty(
            "No two results here have figures of single questions.",
            "The figures of every question lie in questions.json beside each result.json.",
          ),
        );
        return;
      }
      const data = await S.suiteData(number);
      if (stale()) return;
      const numbers = S.index.entries
        .map((_, index) => index)
        .filter((index) => S.entry(index).suite === number && (data.figures.get(index) || []).some((value) => value !== null));
      const asked = S.entriesOf(params.get("models")).filter((index) => numbers.includes(index));
      const pair = asked.length === 2 ? asked : usualPair(numbers);
      if (pair.some((index) => index === undefined)) {
        main.append(S.empty("No two results of this suite have figures of single questions."));
        return;
      }
      const set = (first, second) =>
        S.go(S.link("difference", [S.index.suites[number].slug], { models: [first, second].map(S.keyOf).join(",") }), true);
      const options = numbers.map((index) => [String(index), S.nameOf(index, numbers)]),
        names = pair.map((index) => S.nameOf(index, numbers)),
        measure = S.measureOf(S.entry(pair[0]));
      const rows = pairs(data, ...pair),
        widest = Math.max(1e-9, ...rows.map((row) => Math.abs(row.d)));
      const list = S.virtualList(
        "Questions by difference",
        (row) => {
          const bar = h("span", { class: "gap " + (row.d >= 0 ? "plus" : "minus") });
          bar.style.width = (50 * Math.abs(row.d)) / widest + "%";
          return [
            h("span", { class: "row-text" }, row.question.text || row.question.id),
            h(
              "span",
              { class: "row-facts gaps" },
              h("span", { class: "muted" }, row.question.category || row.question.id),
              h("span", { class: "gap-track", "aria-hidden": "true" }, bar),
              h(
                "span",
                { class: "row-figures" },
                `${S.number(row.first * measure.scale, measure.decimals)} : ${S.number(row.second * measure.scale, measure.decimals)}  d ${S.number(row.d * measure.scale, measure.decimals, true)}`,
              ),
            ),
          ];
        },
        (row) => S.go(S.link("questions", [S.index.suites[number].slug, row.question.id], { models: pair.map(S.keyOf).join(",") })),
      );
      const order = () => {
        const sorted = [...rows],
          by = { apart: (a, b) => Math.abs(b.d) - Math.abs(a.d), first: (a, b) => b.d - a.d, second: (a, b) => a.d - b.d }[chosen.order];
        list.set(by ? sorted.sort(by) : sorted);
      };
      main.append(
        h(
          "div",
          { class: "filters" },
          S.select(
            "Suite",
            able.map((candidate) => [S.index.suites[candidate].slug, S.index.suites[candidate].name]),
            S.index.suites[number].slug,
            (value) => S.go(S.link("difference", [value]), true),
          ),
          S.select("First", options, String(pair[0]), (value) => set(Number(value), pair[1])),
          S.select("Second", options, String(pair[1]), (value) => set(pair[0], Number(value))),
          S.select(
            "Order",
            ORDERS,
            chosen.order,
            (value) => {
              chosen.order = value;
              order();
            },
            { class: "order" },
          ),
        ),
      );
      if (S.entry(pair[0]).judge !== S.entry(pair[1]).judge)
        main.append(h("p", { class: "warning" }, "Two judges: their figures are not comparable."));
      if (!rows.length) {
        main.append(S.empty("These two share no question."));
        return;
      }
      const total = sums(rows);
      main.append(
        h(
          "p",
          { class: "summary" },
          h("strong", {}, S.number(total.d * measure.scale, measure.decimals, true)),
          ` points on average over ${S.number(total.n, 0)} questions: ${names[0]} is better on ${total.wins}, ${names[1]} on ${total.losses}, ties on ${total.n - total.wins - total.losses}.`,
        ),
        h(
          "div",
          { class: "beside wide" },
          h("section", {}, h("h2", {}, "Question by question"), list.element),
          S.table(categoryTable(rows, names, measure), () => true, { column: -1, downwards: false }).element,
        ),
      );
      order();
    },
    keys: {},
  };
})();
