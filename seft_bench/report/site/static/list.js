// A list of any length: only the rows in sight are in the page. Arrow keys, j and k, Home and End, Enter.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const HEIGHT = 56;

  // drawRow(item) gives a row's children; open(item) is called by Enter and by a click.
  function virtualList(label, drawRow, open) {
    const space = h("div", { class: "space", role: "presentation" });
    const box = h("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": label }, space);
    let items = [],
      active = -1,
      drawn = "";
    const id = (index) => "row-" + index;

    function draw(force) {
      const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - 6),
        last = Math.min(items.length, Math.ceil((box.scrollTop + (box.clientHeight || 600)) / HEIGHT) + 6);
      const state = first + ":" + last + ":" + active;
      if (!force && state === drawn) return;
      drawn = state;
      space.style.height = items.length * HEIGHT + "px";
      space.replaceChildren(
        ...items.slice(first, last).map((item, offset) => {
          const index = first + offset;
          const row = h(
            "div",
            {
              class: "row",
              id: id(index),
              role: "option",
              "aria-selected": index === active ? "true" : "false",
              "aria-setsize": items.length,
              "aria-posinset": index + 1,
              on: {
                click: () => {
                  choose(index);
                  open(item);
                },
              },
            },
            drawRow(item),
          );
          row.style.transform = `translateY(${index * HEIGHT}px)`;
          return row;
        }),
      );
      if (active >= 0) box.setAttribute("aria-activedescendant", id(active));
      else box.removeAttribute("aria-activedescendant");
    }

    function choose(index) {
      if (!items.length) return null;
      active = Math.max(0, Math.min(items.length - 1, index));
      const top = active * HEIGHT;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + HEIGHT - box.clientHeight;
      draw(true);
      return items[active];
    }

    box.addEventListener("scroll", () => requestAnimationFrame(() => draw(false)), { passive: true });
    box.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(box.clientHeight / HEIGHT) - 1);
      const target = { ArrowDown: active + 1, ArrowUp: active - 1, Home: 0, End: items.length - 1, PageDown: active + page, PageUp: active - page }[
        event.key
      ];
      if (target !== undefined && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        event.stopPropagation();
        choose(target);
      } else if (event.key === "Enter" && active >= 0) {
        event.preventDefault();
        open(items[active]);
      }
    });
    new ResizeObserver(() => draw(false)).observe(box);
    return {
      element: box,
      set(found, current) {
        items = found;
        active = current === undefined ? -1 : found.indexOf(current);
        drawn = "";
        box.scrollTop = 0;
        draw(true);
        if (active >= 0) choose(active);
      },
      mark(current) {
        const index = items.indexOf(current);
        if (index >= 0 && index !== active) choose(index);
      },
      move(step) {
        return choose(active < 0 ? (step > 0 ? 0 : items.length - 1) : active + step);
      },
      get items() {
        return items;
      },
      get active() {
        return items[active];
      },
    };
  }
  S.virtualList = virtualList;
})();
