// One question: turns, references, answers of chosen models side by side, with verdicts and what the judge wrote.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const LONG = 6000,
    MOST = 4;

  // Text of a model or judge, as text. A very long one is shown in part until asked for.
  function text(content, kind) {
    const block = h("div", { class: "text " + kind, dir: "auto" }, content.length > LONG ? content.slice(0, LONG) : content);
    if (content === "") return h("p", { class: "muted" }, "(empty)");
    if (content.length <= LONG) return block;
    const more = h(
      "button",
      {
        type: "button",
        class: "quiet",
        on: {
          click: () => {
            block.replaceChildren(document.createTextNode(S.shown(content)));
            more.remove();
          },
        },
      },
      `Show all ${S.number(content.length, 0)} characters`,
    );
    return [block, more];
  }

  const ORDERS = { candidate_first: "this answer was shown first", candidate_second: "this answer was shown second", single: "" };

  function verdict(row) {
    const [turn, order, status, score, preference, raw, requested, returned, details] = row;
    const figure =
      score !== null
        ? ["grade ", h("strong", {}, S.number(score, 2))]
        : preference !== null
          ? [
              "preference ",
              h("strong", {}, S.number(preference, 3)),
              h(
                "span",
                { class: "muted" },
                preference > 1.5 ? " better than the baseline" : preference < 1.5 ? " worse than the baseline" : " a tie",
              ),
            ]
          : ["no figure"];
    const facts = [ORDERS[order] ?? order, returned && returned !== requested ? `asked for ${requested}, ${returned} replied` : returned]
      .filter(Boolean)
      .join("; ");
    const inside = [
      raw ? h("div", { class: "text raw", dir: "auto" }, raw) : h("p", { class: "muted" }, "The judge wrote nothing that was kept."),
      details.length
        ? h(
            "dl",
            { class: "details" },
            details.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
          )
        : null,
    ];
    return h(
      "div",
      { class: "verdict" },
      h("p", {}, h("span", { class: "status " + status }, status), " ", figure, facts ? h("span", { class: "muted" }, " \u00b7 " + facts) : null),
      h("details", {}, h("summary", {}, `The judge\u2019s text, turn ${turn}`), inside),
    );
  }

  // A text that was cut for the report says at its end how much is not here.
  function lengthOf(content) {
    const cut = content.match(/\n\[\u2026 cut here: ([\d,]+) more characters, see the file of answers or judgments\]$/);
    const rest = cut ? Number(cut[1].replace(/,/g, "")) : 0;
    return `${S.number(content.length - (cut ? cut[0].length : 0) + rest, 0)} characters` + (cut ? ", cut" : "");
  }

  function card(number, peers, row, turn, figure, first, last, remove) {
    const item = S.entry(number),
      measure = S.measureOf(item);
    const parts = [];
    if (first)
      parts.push(
        h(
          "header",
          {},
          h("h3", {}, S.nameOf(number, peers)),
          figure === null || figure === undefined
            ? h("span", { class: "muted" }, "no figure")
            : h("span", { class: "figure" }, S.number(figure * measure.scale, measure.decimals), h("span", { class: "unit" }, " " + measure.unit)),
          remove
            ? h("button", { type: "button", class: "quiet", "aria-label": "Take away " + S.nameOf(number, peers), on: { click: remove } }, "\u00d7")
            : null,
        ),
      );
    if (!item.blocks.length) parts.push(first ? h("p", { class: "muted" }, "The answers of this model are not part of this report.") : null);
    else if (!row || !row[1]) parts.push(first ? h("p", { class: "muted" }, "no answer to this question") : null);
    else if (row[1][turn] !== undefined)
      parts.push(
        h("p", { class: "muted small" }, lengthOf(row[1][turn]) + (row[2][turn] ? ` \u00b7 ended by ${row[2][turn]}` : "")),
        text(row[1][turn], "answer"),
      );
    // A turn beyond the last one (a judge that graded more than was asked) is shown with the last.
    if (row) parts.push(row[3].filter((found) => found[0] === turn + 1 || (last && found[0] > turn + 1)).map(verdict));
    return h("article", { class: "card" }, parts);
  }

  // Everyone's figure on this question; a click shows the answer beside the others.
  function everyone(data, question, shown, peers, add) {
    const rows = peers
      .map((number) => [number, (data.figures.get(number) || [])[question.index], (data.statuses.get(number) || "")[question.index]])
      .sort((first, second) => (second[1] ?? -Infinity) - (first[1] ?? -Infinity));
    const figures = rows.map((row) => row[1]).filter((value) => value !== null && value !== undefined),
      high = Math.max(...figures, 1e-9);
    return h(
      "details",
      { class: "everyone" },
      h("summary", {}, `All ${rows.length} models on this question`),
      h(
        "div",
        { class: "bars" },
        rows.map(([number, value, letter]) => {
          const measure = S.measureOf(S.entry(number)),
            bar = h("span", { class: "bar-fill" }),
            known = value !== null && value !== undefined;
          bar.style.width = (known ? Math.max(0, (100 * value) / high) : 0) + "%";
          return h(
            "button",
            { type: "button", class: "bar-row", "aria-pressed": shown.includes(number) ? "true" : "false", on: { click: () => add(number) } },
            h("span", { class: "bar-name" }, S.nameOf(number, peers)),
            h("span", { class: "bar-track" }, bar),
            h("span", { class: "bar-value" }, known ? S.number(value * measure.scale, measure.decimals) : S.STATUS[letter] || "\u2013"),
          );
        }),
      ),
    );
  }

  // Fills `box` with the question. `shown`: entries side by side. `actions`: step(by), choose(entries), back().
  async function drawQuestion(box, data, suiteNumber, question, shown, peers, place, actions, stale) {
    const whole = await S.rowOf("texts/" + suiteNumber, data.suite.texts, question.index);
    const rows = await Promise.all(shown.map((number) => S.rowOf("answers/" + number, S.entry(number).blocks, question.index)));
    if (stale()) return;
    const turns = whole && whole[1].length ? whole[1] : [],
      references = whole ? whole[2] : [];
    const count = Math.max(1, turns.length, ...rows.map((row) => (row && row[1] ? row[1].length : 0)));
    const sections = Array.from({ length: count }, (_, turn) =>
      h(
        "section",
        { class: "turn" },
        count > 1 ? h("h2", {}, `Turn ${turn + 1}`) : null,
        turns[turn] !== undefined
          ? text(turns[turn], "asked")
          : turn === 0
            ? h("p", { class: "muted" }, "The text of this question is not at hand: neither the suite\u2019s data nor an answer with its messages.")
            : null,
        references[turn] !== undefined
          ? h(
              "details",
              {},
              h("summary", {}, data.suite.measure && data.suite.measure.key === "win_rate" ? "The baseline\u2019s answer" : "Reference answer"),
              text(references[turn], "reference"),
            )
          : null,
        h(
          "div",
          { class: "cards" },
          shown.map((number, position) =>
            card(
              number,
              peers,
              rows[position],
              turn,
              (data.figures.get(number) || [])[question.index],
              turn === 0,
              turn === count - 1,
              shown.length > 1 ? () => actions.choose(shown.filter((other) => other !== number)) : null,
            ),
          ),
        ),
      ),
    );
    const add = (number) => actions.choose(shown.includes(number) ? shown.filter((other) => other !== number) : [...shown, number].slice(-MOST));
    box.replaceChildren(
      h(
        "header",
        { class: "question-head" },
        h("button", { type: "button", class: "quiet back", on: { click: actions.back } }, "\u2190 List"),
        h("h1", { tabindex: "-1" }, "Question ", h("code", {}, question.id)),
        question.category ? h("span", { class: "tag" }, question.category) : null,
        h(
          "span",
          { class: "pager" },
          h("span", { class: "muted" }, place),
          h("button", { type: "button", "aria-keyshortcuts": "k ArrowLeft", on: { click: () => actions.step(-1) } }, "\u2190 Previous"),
          h("button", { type: "button", "aria-keyshortcuts": "j ArrowRight", on: { click: () => actions.step(1) } }, "Next \u2192"),
        ),
      ),
      S.chooser("Answers of", peers, shown, actions.choose, MOST),
      ...sections,
      everyone(data, question, shown, peers, add),
    );
    box.scrollTop = 0;
  }
  S.drawQuestion = drawQuestion;
})();
