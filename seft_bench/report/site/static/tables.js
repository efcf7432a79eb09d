// Tables that sort within their blocks, and the views that are tables: leaderboard and reviser.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const isNumber = (column) => column.kind !== "text";
  const isName = (column) => ["model", "label", "run", "category"].includes(column.key); // says which row it is, and stays when the rest scrolls

  function cellText(cell, column) {
    const [value, low, high] = cell;
    if (typeof value === "string") return [value, ""];
    const signed = column.kind === "difference";
    const ends = low !== undefined && low !== null && high !== undefined && high !== null && (column.kind === "interval" || signed);
    return [
      S.number(value, column.decimals, signed),
      ends ? "[" + S.number(low, column.decimals, signed) + ", " + S.number(high, column.decimals, signed) + "]" : "",
    ];
  }

  function drawCell(cell, column, row) {
    const [figure, ends] = cellText(cell, column),
      mark = cell[3] || "";
    const name =
      row.entry !== null && column.key === "model"
        ? h("a", { href: S.link("questions", [S.suiteOf(S.entry(row.entry)).slug], { models: S.keyOf(row.entry) }) }, figure)
        : figure;
    return h(
      "td",
      {
        class: (isNumber(column) ? "number" : "text") + (column.role === "main" ? " main" : "") + (isName(column) ? " name" : ""),
        title: column.key === "model" ? figure : null,
      },
      mark === "best" ? h("strong", {}, name) : name,
      column.key === "model" && row.about ? h("span", { class: "about" }, " " + row.about) : null,
      ends ? [" ", h("span", { class: "ends" }, ends)] : null,
      mark === "tied" ? h("span", { title: "not told apart from the best" }, " \u2248") : null,
      cell[4] ? h("sup", {}, "(" + cell[4] + ")") : null,
    );
  }

  // Missing values come last in either direction.
  function compare(first, second, downwards) {
    if (first === null || first === undefined) return second === null || second === undefined ? 0 : 1;
    if (second === null || second === undefined) return -1;
    const order =
      typeof first === "number" && typeof second === "number" ? first - second : String(first).localeCompare(String(second), "en", { numeric: true });
    return downwards ? -order : order;
  }

  // A table whose heads sort. State: {column: number or -1, downwards}. Figures compare within a block only, so blocks stay together.
  function table(data, keep, state) {
    const { frame, box: body, replace } = S.scroller(data.title, { class: data.columns.some(isName) ? "names-stay" : "" });
    const announce = h("p", { class: "unseen", role: "status" });
    const draw = () => {
      const groups = data.columns.some((column) => column.group);
      const heads = data.columns.map((column, index) => {
        const sorted = state.column === index ? (state.downwards ? "descending" : "ascending") : "none";
        const button = h(
          "button",
          { type: "button", class: "sort", "data-key": column.key, on: { click: () => sort(index) } },
          column.title,
          column.unit ? h("span", { class: "unit" }, (column.unit.length < 5 ? "\u00a0" : " ") + column.unit) : null,
          h("span", { class: "arrow", "aria-hidden": "true" }, sorted === "none" ? "" : sorted === "ascending" ? " \u25b2" : " \u25bc"),
        );
        return h(
          "th",
          { scope: "col", class: (isNumber(column) ? "number" : "text") + (isName(column) ? " name" : ""), "aria-sort": sorted },
          button,
        );
      });
      const parts = [];
      for (const row of data.rows.filter(keep)) {
        if (!parts.length || parts[parts.length - 1].block !== row.block) parts.push({ block: row.block, rows: [] });
        parts[parts.length - 1].rows.push(row);
      }
      const value = (row) => row.cells[state.column][0];
      const bodies = parts.map((part) =>
        h(
          "tbody",
          { class: part.block === "withheld" ? "withheld" : null },
          part.block
            ? h(
                "tr",
                { class: "block" },
                h(
                  "th",
                  { colspan: data.columns.length, scope: "rowgroup" },
                  h("span", {}, part.block === "withheld" ? "withheld: too few judgments are scored, not ranked" : part.block),
                ),
              )
            : null,
          (state.column < 0 ? part.rows : [...part.rows].sort((first, second) => compare(value(first), value(second), state.downwards))).map((row) =>
            h(
              "tr",
              {},
              row.cells.map((cell, index) => drawCell(cell, data.columns[index], row)),
            ),
          ),
        ),
      );
      const spans = [];
      for (const column of data.columns) {
        if (spans.length && spans[spans.length - 1][0] === column.group) spans[spans.length - 1][1] += 1;
        else spans.push([column.group, 1]);
      }
      replace(
        h(
          "table",
          {},
          h("caption", { class: "unseen" }, data.title),
          h(
            "thead",
            {},
            groups
              ? h(
                  "tr",
                  { class: "groups" },
                  spans.map(([name, span]) => h("th", { colspan: span, scope: "colgroup" }, name)),
                )
              : null,
            h("tr", {}, heads),
          ),
          bodies,
        ),
      );
      if (!parts.length) body.append(S.empty("No row matches these filters."));
    };
    function sort(index) {
      const numeric = isNumber(data.columns[index]) && data.columns[index].key !== "rank";
      if (state.column !== index) {
        state.column = index;
        state.downwards = numeric;
      } else if (state.downwards === numeric) state.downwards = !numeric;
      else state.column = -1;
      draw();
      const button = body.querySelectorAll("button.sort")[index];
      if (button) button.focus();
      announce.textContent =
        state.column < 0
          ? "in the order of ranks"
          : "sorted by " + data.columns[index].title + (state.downwards ? ", highest first" : ", lowest first");
    }
    draw();
    return { element: h("section", { class: "table" }, h("h2", {}, data.title), frame, announce, S.notes(data.notes)), draw };
  }

  const distinct = (values) => [...new Set(values)];
  const remembered = {};

  S.views.leaderboard = {
    title: "Leaderboard",
    render(main) {
      const filters = remembered.filters || (remembered.filters = { suite: "", decoding: "", judge: "", name: "" });
      const own = S.index.entries.filter((item) => !item.other);
      const options = (values) => [["", "all"], ...distinct(values).map((value) => [value, value])];
      const keep = (row) => {
        const item = row.entry === null ? null : S.entry(row.entry);
        return (
          !item ||
          ((!filters.suite || S.suiteOf(item).name === filters.suite) &&
            (!filters.decoding || item.decoding === filters.decoding) &&
            (!filters.judge || item.judge === filters.judge) &&
            item.model.toLowerCase().includes(filters.name.toLowerCase()))
        );
      };
      const holder = h("div", {});
      const states = remembered.states || (remembered.states = S.index.leaderboards.map(() => ({ column: -1, downwards: false })));
      // A table is of one suite, which its title names; decoding and judge stand above each ranking, and beside the names of rows that are not ranked.
      const said = ["suite", "decoding", "judge"];
      const shortened = (data) => {
        const kept = data.columns.map((column) => !said.includes(column.key)),
          ranks = data.columns.findIndex((column) => column.key === "rank");
        const about = (row) =>
          typeof row.cells[ranks][0] === "number" || row.entry === null ? null : [S.entry(row.entry).decoding, S.entry(row.entry).judge].join(", ");
        return {
          ...data,
          columns: data.columns.filter((_, index) => kept[index]),
          rows: data.rows.map((row) => ({ ...row, about: about(row), cells: row.cells.filter((_, index) => kept[index]) })),
        };
      };
      const tables = S.index.leaderboards.map(shortened).map((data, index) => ({ data, drawn: table(data, keep, states[index]) }));
      const hide = () => {
        for (const { data, drawn } of tables) drawn.element.hidden = !data.rows.some(keep);
        nothing.hidden = tables.some(({ drawn }) => !drawn.element.hidden);
      };
      const refresh = () => {
        for (const { drawn } of tables) drawn.draw();
        hide();
      };
      const nothing = S.empty("No model matches these filters.");
      // What a reader of a matrix came for stands first: a single checkpoint's rank is one seed's luck as well.
      const methods = S.index.methods.length
        ? [
            h("h2", { class: "part" }, "Methods, over seeds"),
            ...S.index.methods.map((data) => table(data, () => true, { column: -1, downwards: false }).element),
            h("h2", { class: "part" }, "Every checkpoint"),
          ]
        : [];
      const set = (key) => (value) => {
        filters[key] = value;
        refresh();
      };
      main.append(
        h("h1", {}, "Leaderboard"),
        ...methods,
        h(
          "p",
          { class: "lead" },
          "Every model that was judged, ranked within one suite, decoding and judge. Ranges in brackets are 95\u00a0% intervals over questions.",
        ),
        h(
          "div",
          { class: "filters" },
          S.select("Suite", options(own.map((item) => S.suiteOf(item).name)), filters.suite, set("suite")),
          S.select("Decoding", options(own.map((item) => item.decoding)), filters.decoding, set("decoding")),
          S.select("Judge", options(own.map((item) => item.judge)), filters.judge, set("judge")),
          S.search("Name", filters.name, set("name")),
        ),
        holder,
      );
      holder.append(nothing, ...tables.map(({ drawn }) => drawn.element));
      const notes = S.notes(S.index.notes);
      if (notes) holder.append(notes);
      hide();
    },
  };

  S.views.reviser = {
    title: "Reviser",
    render(main) {
      main.append(
        h("h1", {}, "What revisers did"),
        h("p", { class: "lead" }, "Grades of drafts before and after revising: the gain, and the harm to drafts that were good already."),
      );
      if (!S.index.reviser.length)
        main.append(
          S.empty("No run with a reviser is among these results.", "seft-bench bench writes its diagnostics into the folder cells of the results."),
        );
      for (const data of S.index.reviser) main.append(table({ ...data, rows: data.rows }, () => true, { column: -1, downwards: false }).element);
    },
  };

  S.table = table;
})();
