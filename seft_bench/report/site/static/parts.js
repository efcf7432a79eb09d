// Small parts of several views: names of entries, choosers, notes, the tooltip.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;

  const entry = (number) => S.index.entries[number];
  const suiteOf = (item) => S.index.suites[item.suite];
  const measureOf = (item) => suiteOf(item).measure || { title: "figure", unit: "", scale: 1, decimals: 2 };
  const byKey = new Map();
  const numberOf = (key) => {
    if (!byKey.size)
      S.index.entries.forEach((item, number) => {
        if (!byKey.has(suiteOf(item).slug + "/" + item.key)) byKey.set(suiteOf(item).slug + "/" + item.key, number);
      });
    return byKey.get(key);
  };
  const keyOf = (number) => suiteOf(entry(number)).slug + "/" + entry(number).key;
  const panelKey = (panel) => [panel.suite, panel.decoding, panel.judge].join(" \u00b7 ");
  const entriesOf = (text) =>
    (text || "")
      .split(",")
      .map(numberOf)
      .filter((number) => number !== undefined);

  // A name that tells an entry from its neighbours: the judge and the decoding only where there are several.
  function nameOf(number, peers) {
    const item = entry(number),
      others = (peers || []).map(entry).filter((other) => other.model === item.model && other !== item);
    let name = item.model;
    if (others.some((other) => other.decoding !== item.decoding)) name += " \u00b7 " + item.decoding;
    if (others.some((other) => other.judge !== item.judge)) name += " \u00b7 " + item.judge;
    return name + (item.withheld ? " (withheld)" : "") + (item.other ? " (" + S.index.against + ")" : "");
  }
  const scaled = (number, value) => (value === null || value === undefined ? null : value * measureOf(entry(number)).scale);

  function select(label, options, chosen, listener, properties) {
    const box = h(
      "select",
      { ...(properties || {}), on: { change: () => listener(box.value) } },
      options.map(([value, text]) => h("option", { value }, text)),
    );
    box.value = chosen;
    return h("label", { class: "field" }, h("span", {}, label), box);
  }

  const panelSelect = (panels, chosen, listener) =>
    select(
      "Suite, decoding, judge",
      panels.map((panel) => [panelKey(panel), panelKey(panel)]),
      panelKey(chosen),
      listener,
    );

  function search(label, chosen, listener) {
    const box = h("input", {
      type: "search",
      class: "search",
      autocomplete: "off",
      spellcheck: "false",
      "aria-keyshortcuts": "/",
      on: { input: () => listener(box.value) },
    });
    box.value = chosen || "";
    return h("label", { class: "field grow" }, h("span", {}, label), box);
  }

  // Chosen entries as buttons that take them away, and a list to add from.
  function chooser(label, all, chosen, listener, most) {
    const rest = all.filter((number) => !chosen.includes(number));
    const add = select(
      label,
      [["", chosen.length >= most ? "at most " + most : "add a model \u2026"], ...rest.map((number) => [String(number), nameOf(number, all)])],
      "",
      (value) => {
        if (value !== "") listener([...chosen, Number(value)]);
      },
      { disabled: chosen.length >= most },
    );
    const chips = chosen.map((number, position) =>
      h(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-label": "Take away " + nameOf(number, all),
          on: { click: () => listener(chosen.filter((_, other) => other !== position)) },
        },
        nameOf(number, all),
        h("span", { "aria-hidden": "true" }, " \u00d7"),
      ),
    );
    return h("div", { class: "chooser" }, add, h("div", { class: "chips" }, chips));
  }

  const notes = (texts) =>
    texts && texts.length
      ? h(
          "ul",
          { class: "notes" },
          texts.map((text) => h("li", {}, text)),
        )
      : null;
  const empty = (text, hint) => h("div", { class: "empty" }, h("p", {}, text), hint ? h("p", { class: "muted" }, hint) : null);

  // Says at which edges of a box there is more: the style sheet fades these.
  function fadeEdges(box, frame) {
    const look = () => {
      const left = Math.abs(box.scrollLeft);
      frame.classList.toggle("more-left", left > 1);
      frame.classList.toggle("more-right", left + box.clientWidth < box.scrollWidth - 1);
    };
    box.addEventListener("scroll", look, { passive: true });
    const watcher = new ResizeObserver(look);
    for (const element of [box, ...box.children]) watcher.observe(element);
    return { look, watcher };
  }

  // A box that scrolls sideways by pointer and by keys, in a frame that shows where there is more. One with a control of its own has no label and no stop.
  function scroller(label, { class: name, tall } = {}, ...children) {
    const box = h(
      "div",
      { class: "scroller" + (tall ? " tall" : ""), ...(label ? { tabindex: "0", role: "region", "aria-label": label } : {}) },
      children,
    );
    const frame = h("div", { class: "frame" + (name ? " " + name : "") }, box);
    const { watcher } = fadeEdges(box, frame);
    const replace = (...replaced) => {
      watcher.disconnect();
      box.replaceChildren(...replaced);
      for (const element of [box, ...replaced]) watcher.observe(element);
    };
    return { frame, box, replace };
  }

  const tooltip = document.getElementById("tooltip");
  function showTip(target, text) {
    tooltip.textContent = S.shown(text);
    tooltip.hidden = false;
    const box = target.getBoundingClientRect(),
      own = tooltip.getBoundingClientRect();
    tooltip.style.left = Math.max(8, Math.min(window.innerWidth - own.width - 8, box.left + box.width / 2 - own.width / 2)) + "px";
    tooltip.style.top = (box.top - own.height - 10 > 0 ? box.top - own.height - 10 : box.bottom + 10) + "px";
  }
  const hideTip = () => {
    tooltip.hidden = true;
  };
  const tips = (text) => ({
    mouseenter: (event) => showTip(event.currentTarget, text),
    mouseleave: hideTip,
    focus: (event) => showTip(event.currentTarget, text),
    blur: hideTip,
  });

  // Figures of all questions of a suite: loaded once.
  const loaded = new Map();
  function suiteData(number) {
    if (!loaded.has(number)) {
      const suite = S.index.suites[number];
      loaded.set(
        number,
        Promise.all([S.needAll("questions/" + number, suite.list.length), S.needAll("figures/" + number, suite.figures.length)]).then(
          ([questions, rows]) => ({
            suite,
            questions: questions.map(([id, category, text], index) => ({ index, id, category, text })),
            figures: new Map(rows.map((row) => [row[0], row[1]])),
            statuses: new Map(rows.map((row) => [row[0], row[2]])),
          }),
        ),
      );
    }
    return loaded.get(number);
  }

  // The part of a series of files that holds a question: `starts` are the questions with which each file begins.
  function partOf(starts, index) {
    let part = -1;
    while (part + 1 < starts.length && starts[part + 1] <= index) part += 1;
    return part;
  }
  async function rowOf(kind, starts, index) {
    const part = partOf(starts, index);
    if (part < 0) return null;
    const rows = await S.need(kind + "-" + part);
    return rows.find((row) => row[0] === index) || null;
  }

  const STATUS = { o: "ok", p: "parse_error", a: "api_error", r: "refused", l: "over_length", m: "missing" };

  Object.assign(S, {
    entry,
    suiteOf,
    measureOf,
    numberOf,
    keyOf,
    panelKey,
    entriesOf,
    nameOf,
    scaled,
    select,
    panelSelect,
    fadeEdges,
    scroller,
    search,
    chooser,
    notes,
    empty,
    showTip,
    hideTip,
    tips,
    suiteData,
    rowOf,
    STATUS,
  });
})();
