// The browser of questions: filters, the list, and the question that is open.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const OUTCOMES = [
    ["all", "all"],
    ["wins", "first is better"],
    ["losses", "second is better"],
    ["ties", "ties"],
    ["apart", "furthest apart first"],
  ];
  const TIE = 1e-9;
  let live = null; // what is in the page now, so that moving between questions keeps the list

  const entriesIn = (suite) => S.index.entries.map((_, number) => number).filter((number) => S.entry(number).suite === suite);
  const best = (numbers) =>
    [...numbers].sort(
      (first, second) =>
        S.entry(first).other - S.entry(second).other ||
        S.entry(first).withheld - S.entry(second).withheld ||
        (S.entry(second).figure[0] ?? -Infinity) - (S.entry(first).figure[0] ?? -Infinity),
    );

  // The models shown where the address names none: the best two of one decoding and judge.
  function usual(suite) {
    const ranked = best(entriesIn(suite)),
      first = ranked.find((number) => S.entry(number).blocks.length) ?? ranked[0];
    const rivals = ranked.filter(
      (number) =>
        number !== first &&
        S.entry(number).decoding === S.entry(first).decoding &&
        S.entry(number).judge === S.entry(first).judge &&
        S.entry(number).model !== S.entry(first).model,
    );
    return [first, ...rivals.slice(0, 1)];
  }

  function difference(data, pair, question) {
    const [first, second] = pair.map((number) => (data.figures.get(number) || [])[question.index]);
    return first === null || first === undefined || second === null || second === undefined ? null : first - second;
  }

  function filtered(data, state) {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean),
      pair = state.shown.slice(0, 2);
    const letter = Object.keys(S.STATUS).find((key) => S.STATUS[key] === state.status);
    const found = data.questions.filter((question) => {
      if (state.category && question.category !== state.category) return false;
      if (letter && !state.shown.some((number) => (data.statuses.get(number) || "")[question.index] === letter)) return false;
      if (state.outcome !== "all") {
        const gap = pair.length < 2 ? null : difference(data, pair, question);
        if (
          gap === null ||
          (state.outcome === "wins" && gap <= TIE) ||
          (state.outcome === "losses" && gap >= -TIE) ||
          (state.outcome === "ties" && Math.abs(gap) > TIE)
        )
          return false;
      }
      const haystack = (question.id + " " + question.category + " " + question.text).toLowerCase();
      return words.every((word) => haystack.includes(word));
    });
    if (state.outcome === "apart") found.sort((first, second) => Math.abs(difference(data, pair, second)) - Math.abs(difference(data, pair, first)));
    if (state.outcome === "wins") found.sort((first, second) => difference(data, pair, second) - difference(data, pair, first));
    if (state.outcome === "losses") found.sort((first, second) => difference(data, pair, first) - difference(data, pair, second));
    return found;
  }

  function listRow(data, state, question) {
    const figures = state.shown.slice(0, 2).map((number) => {
      const value = (data.figures.get(number) || [])[question.index],
        measure = S.measureOf(S.entry(number));
      return value === null || value === undefined
        ? S.STATUS[(data.statuses.get(number) || "")[question.index]] || "\u2013"
        : S.number(value * measure.scale, measure.decimals);
    });
    return [
      h("span", { class: "row-text" }, question.text || "(text not at hand)"),
      h(
        "span",
        { class: "row-facts" },
        h("span", { class: "muted" }, question.category || question.id),
        h("span", { class: "row-figures" }, figures.join("  :  ")),
      ),
    ];
  }

  class Browser {
    constructor(main, suite, data) {
      Object.assign(this, { suite, data, opened: 0 });
      this.peers = best(entriesIn(suite));
      this.state = { text: "", category: "", outcome: "all", status: "", shown: usual(suite) };
      this.list = S.virtualList(
        "Questions",
        (question) => listRow(data, this.state, question),
        (question) => this.open(question),
      );
      this.count = h("p", { class: "muted small", role: "status" });
      this.filters = h("div", { class: "filters" });
      this.detail = h("section", { class: "detail", "aria-label": "The question" });
      this.element = h("div", { class: "browser" }, h("aside", { class: "side" }, this.filters, this.count, this.list.element), this.detail);
      main.append(this.element);
      this.drawFilters();
    }

    drawFilters() {
      const { state, data } = this,
        categories = [...new Set(data.questions.map((question) => question.category).filter(Boolean))].sort();
      const statuses = [...new Set([...data.statuses.values()].flatMap((letters) => [...new Set(letters)]))].map((letter) => S.STATUS[letter]);
      const change = (key) => (value) => {
        state[key] = value;
        this.refresh();
      };
      const suites = S.index.suites.map((suite, number) => [suite, number]).filter(([suite]) => suite.questions);
      this.filters.replaceChildren(
        S.select(
          "Suite",
          suites.map(([suite, number]) => [String(number), suite.name]),
          String(this.suite),
          (value) => S.go(S.link("questions", [S.index.suites[value].slug])),
        ),
        S.search("Search", state.text, change("text")),
        categories.length ? S.select("Category", [["", "all"], ...categories.map((name) => [name, name])], state.category, change("category")) : "",
        S.select("Outcome", OUTCOMES, state.outcome, change("outcome"), { class: "outcome" }),
        S.select("Status", [["", "all"], ...statuses.map((name) => [name, name])], state.status, change("status")),
      );
    }

    refresh() {
      const found = filtered(this.data, this.state);
      this.list.set(found, this.question);
      this.count.textContent = `${S.number(found.length, 0)} of ${S.number(this.data.questions.length, 0)} questions`;
    }

    address(question, shown) {
      return S.link("questions", question ? [this.data.suite.slug, question.id] : [this.data.suite.slug], { models: shown.map(S.keyOf).join(",") });
    }
    open(question) {
      S.go(this.address(question, this.state.shown), Boolean(this.question));
    }
    step(by) {
      const question = this.list.move(by);
      if (question) this.open(question);
    }

    update(parts, params) {
      const asked = S.entriesOf(params.get("models"))
        .filter((number) => this.peers.includes(number))
        .slice(0, 4);
      const shown = asked.length ? asked : this.state.shown;
      const wanted = parts[1] === undefined ? undefined : this.data.questions.find((question) => question.id === parts[1]);
      const changed = String(shown) !== String(this.state.shown) || !this.count.textContent;
      this.state.shown = shown;
      this.question = wanted;
      this.element.classList.toggle("opened", parts[1] !== undefined);
      if (changed) this.refresh();
      if (parts[1] !== undefined && !wanted)
        this.detail.replaceChildren(h("h1", {}, this.data.suite.name), S.empty(`There is no question ${parts[1]} in ${this.data.suite.name}.`));
      else if (!wanted)
        this.detail.replaceChildren(
          h("h1", {}, this.data.suite.name),
          S.chooser("Answers of", this.peers, shown, (numbers) => S.go(this.address(null, numbers.length ? numbers : usual(this.suite)), true), 4),
          S.empty("Choose a question from the list.", "j and k move through it, Enter opens, / searches, ? shows all keys."),
        );
      else this.show(wanted);
    }

    show(question) {
      const mine = ++this.opened,
        items = this.list.items;
      if (!items.includes(question)) {
        Object.assign(this.state, { text: "", category: "", outcome: "all", status: "" });
        this.drawFilters();
        this.refresh();
      }
      this.list.mark(question);
      const place = `${this.list.items.indexOf(question) + 1} of ${this.list.items.length}`;
      const actions = {
        step: (by) => this.step(by),
        back: () => S.go(this.address(null, this.state.shown)),
        choose: (numbers) => S.go(this.address(question, numbers.length ? numbers : usual(this.suite)), true),
      };
      S.drawQuestion(this.detail, this.data, this.suite, question, this.state.shown, this.peers, place, actions, () => mine !== this.opened).catch(
        (error) => this.detail.replaceChildren(S.empty(error.message)),
      );
    }
  }

  S.views.questions = {
    title: "Questions",
    async render(main, { parts, params }, stale) {
      const able = S.index.suites.map((_, number) => number).filter((number) => S.index.suites[number].questions);
      if (!able.length) {
        main.append(
          h("h1", {}, "Questions"),
          S.empty(
            "No figures or answers of single questions are at hand.",
            "seft-bench report takes figures from questions.json beside each result, and answers from the folder named with --runs.",
          ),
        );
        return;
      }
      const number = parts.length ? able.find((candidate) => S.index.suites[candidate].slug === parts[0]) : able[0];
      if (number === undefined) {
        main.append(h("h1", {}, "Questions"), S.empty(`There is no suite ${parts[0]} in this report.`));
        return;
      }
      main.append(h("p", { class: "loading" }, "Loading questions \u2026"));
      const data = await S.suiteData(number);
      if (stale()) return;
      main.replaceChildren();
      live = new Browser(main, number, data);
      live.update(parts, params);
    },
    // Same suite as before: keep list and filters.
    update({ parts, params }) {
      if (!live || !live.element.isConnected || (parts.length && live.data.suite.slug !== parts[0])) return false;
      live.update(parts, params);
      return true;
    },
    keys: {
      j: () => live && live.step2(1),
      k: () => live && live.step2(-1),
      ArrowRight: () => live && live.question && live.step(1),
      ArrowLeft: () => live && live.question && live.step(-1),
      Escape: () => live && live.question && S.go(live.address(null, live.state.shown)),
    },
  };

  // j and k: through the questions while one is open, else through the list.
  Browser.prototype.step2 = function step2(by) {
    if (this.question) this.step(by);
    else {
      this.list.move(by);
      this.list.element.focus({ preventScroll: true });
    }
  };
  S.filtered = filtered;
})();
