// Score against training step, and against the amount of unannotated prompts.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const hidden = new Set(),
    START = { key: "(start)", look: { colour: "series-start", marker: "circle" }, dotted: true };

  function describe(label, x, unit, point, measure) {
    const figure = S.number(point[1], measure.decimals),
      ends = point[2] === null ? "" : " [" + S.number(point[2], measure.decimals) + ", " + S.number(point[3], measure.decimals) + "]";
    return `${label}, ${S.number(x, 0)} ${unit}: ${figure}${ends} ${measure.unit}`;
  }

  function panelCharts(panel, looks) {
    const { measure } = panel,
      yLabel = `${measure.title} (${measure.unit})`;
    const visible = panel.lines.filter((line) => !hidden.has(line.row));
    const point = (line, values, unit) => [...values, describe(line.label, values[0], unit, values, measure)];
    const start = panel.start && !hidden.has(START.key) ? panel.start.point : null;
    const startLine = start
      ? [
          {
            ...START,
            label: panel.start.label,
            points: [[0, start[1], start[2], start[3], describe(panel.start.label, 0, "steps", start, measure)]],
            joined: false,
          },
        ]
      : [];
    const byStep = visible
      .map((line) => ({
        ...line,
        dashed: line.role === "control",
        strong: line.row === "seft",
        look: looks.get(line.row),
        points: line.steps.map((values) => point(line, values, "steps")),
        joined: true,
        origin: start,
      }))
      .filter((line) => line.points.length);
    const steps = [...new Set([0, ...byStep.flatMap((line) => line.points.map((values) => values[0]))])].sort((first, second) => first - second);
    const byPrompts = visible.filter((line) => line.prompts.length && (line.of_seft || line.prompts[0][0] > 0));
    const family = byPrompts.filter((line) => line.of_seft).sort((first, second) => first.prompts[0][0] - second.prompts[0][0]);
    const others = byPrompts.filter((line) => !line.of_seft);
    const promptLines = [
      ...(family.length
        ? [
            {
              label: "SEFT",
              strong: true,
              look: looks.get("seft") || looks.get(family[0].row),
              points: family.map((line) => point(line, line.prompts[0], "prompts")),
              joined: true,
              origin: start,
            },
          ]
        : []),
      ...others.map((line) => ({
        label: line.label,
        dashed: line.role === "control",
        look: looks.get(line.row),
        points: [point(line, line.prompts[0], "prompts")],
        joined: false,
      })),
    ];
    const figure = (title, picture) => h("figure", {}, h("figcaption", {}, title, h("span", { class: "muted" }, " judge " + panel.judge)), picture);
    const drawn = [];
    if (byStep.length)
      drawn.push(
        figure(
          panel.title + ": by training step",
          S.chart({
            title: panel.title + " by training step",
            xLabel: "training step of the policy",
            yLabel,
            lines: [...startLine, ...byStep],
            xTicks: steps.length < 9 ? steps : null,
            reference: start,
          }),
        ),
      );
    if (promptLines.length)
      drawn.push(
        figure(
          panel.title + ": by unannotated prompts",
          S.chart({
            title: panel.title + " by unannotated prompts",
            xLabel: "unannotated prompts",
            yLabel,
            lines: [...startLine, ...promptLines],
            reference: start,
          }),
        ),
      );
    return drawn;
  }

  S.views.curves = {
    title: "Curves",
    render(main) {
      const { panels, notes } = S.index.curves;
      main.append(
        h("h1", {}, "Curves"),
        h(
          "p",
          { class: "lead" },
          "The main figure against training step, and against the unannotated prompts that a method was given. Bars are 95\u00a0% intervals over questions and seeds, points of one x stand side by side; dashed lines are controls. A click on a name hides its line.",
        ),
      );
      if (!panels.length) {
        main.append(
          S.empty("No training run of ours is among these results.", "seft-bench bench evaluates every saved checkpoint of a matrix."),
          S.notes(notes) || "",
        );
        return;
      }
      const rows = new Map(panels.flatMap((panel) => panel.lines).map((line) => [line.row, line]));
      const names = [...rows.keys()].sort((first, second) => (second === "seft") - (first === "seft"));
      const looks = new Map(names.map((row, index) => [row, S.look(index)]));
      const start = panels.find((panel) => panel.start);
      const holder = h("div", {});
      const draw = () => {
        const keys = [...rows.values()].map((line) => ({
          key: line.row,
          label: line.label,
          look: looks.get(line.row),
          dashed: line.role === "control",
          strong: line.row === "seft",
        }));
        if (start) keys.unshift({ ...START, label: start.start.label + ", step 0" });
        const focused = document.activeElement && document.activeElement.textContent;
        holder.replaceChildren(
          S.legend(keys, hidden, (row) => {
            if (!hidden.delete(row)) hidden.add(row);
            draw();
          }),
          h(
            "div",
            { class: "charts" },
            [...rows.keys()].every((row) => hidden.has(row))
              ? S.empty("Every line is hidden: choose one above.")
              : panels.map((panel) => panelCharts(panel, looks)),
          ),
        );
        for (const button of holder.querySelectorAll("button.key")) if (button.textContent === focused) button.focus();
      };
      draw();
      main.append(holder, S.notes(notes) || "");
    },
  };
})();
