// Routes to views, keys, light and dark.
"use strict";
(() => {
  const S = seftBench,
    { h } = S;
  const main = document.getElementById("main"),
    nav = document.getElementById("views"),
    help = document.getElementById("help"),
    themeButton = document.getElementById("theme");
  const FADE = 40; // what the style sheet fades at an edge of the bar
  const order = ["leaderboard", "curves", "matrix", "radar", "difference", "questions", "reviser"];
  let turn = 0,
    current = "",
    first = true;

  function drawNav(view) {
    nav.replaceChildren(...order.map((name) => h("a", { href: S.link(name), "aria-current": name === view ? "page" : null }, S.views[name].title)));
    reveal();
  }

  // On a narrow screen the last views stand outside the bar until it is scrolled to them.
  const { look } = S.fadeEdges(nav, nav);
  function reveal() {
    const shown = nav.querySelector("[aria-current]");
    if (shown) nav.scrollLeft += shown.getBoundingClientRect().right + FADE - nav.getBoundingClientRect().right;
    look();
  }

  async function show() {
    if (location.hash === "#main") return;
    const route = S.route(),
      view = S.views[route.view];
    const mine = ++turn;
    S.hideTip();
    if (!view) {
      main.replaceChildren(h("h1", {}, "No such page"), S.empty(`There is no view ${route.view}.`));
      drawNav("");
      return;
    }
    const same = current === route.view;
    current = route.view;
    document.title = view.title + " \u00b7 seft-bench report";
    drawNav(route.view);
    if (same && view.update && view.update(route)) return;
    const focused =
      same && document.activeElement && main.contains(document.activeElement)
        ? [document.activeElement.tagName, [...main.querySelectorAll(document.activeElement.tagName)].indexOf(document.activeElement)]
        : null;
    main.replaceChildren();
    main.className = "view-" + route.view;
    try {
      await view.render(main, route, () => mine !== turn);
    } catch (error) {
      if (mine === turn) main.append(S.empty(error.message));
      console.error(error);
    }
    if (mine !== turn) return;
    reveal(); // a long page has a scroll bar, which makes the bar narrower
    if (focused) {
      const target = main.querySelectorAll(focused[0])[focused[1]];
      if (target) target.focus();
    } else if (!first) {
      window.scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
    first = false;
  }

  function theme(wanted) {
    const dark = wanted ? wanted === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    themeButton.textContent = dark ? "Light" : "Dark";
    themeButton.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
  }
  const saved = () => {
    try {
      return localStorage.getItem("seft-bench-theme");
    } catch (error) {
      return null;
    }
  };
  function switchTheme() {
    const wanted = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("seft-bench-theme", wanted);
    } catch (error) {
      /* no storage: the choice lasts as long as the page */
    }
    theme(wanted);
    if (current === "matrix") show(); // its cells have colours of their own
  }

  const KEYS = [
    ["1 \u2026 7", "the views, in their order"],
    ["/", "search"],
    ["j, k", "next and previous question, also in the list"],
    ["\u2190, \u2192", "previous and next question while one is open"],
    ["Enter", "open what is chosen in a list"],
    ["Home, End, Page keys", "move in a list"],
    ["Esc", "back to the list"],
    ["t", "light or dark"],
    ["?", "this help"],
  ];
  help.append(
    h("h2", { id: "help-title" }, "Keys"),
    h(
      "dl",
      {},
      KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]),
    ),
    h("button", { type: "button", on: { click: () => help.close() } }, "Close"),
  );
  const showHelp = () => {
    if (!help.open) help.showModal();
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const search = main.querySelector("input.search"),
      keys = (S.views[current] || {}).keys || {};
    if (event.key === "?") showHelp();
    else if (event.key === "/" && search) search.focus();
    else if (event.key === "t") switchTheme();
    else if (/^[1-7]$/.test(event.key)) S.go(S.link(order[event.key - 1]));
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  document.querySelector("a.skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  document.getElementById("help-button").addEventListener("click", showHelp);
  themeButton.addEventListener("click", switchTheme);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(saved()));
  S.narrow.addEventListener("change", () => {
    if (current === "curves" || current === "radar") show(); // their text keeps its size, so they are drawn for the width
  });
  window.addEventListener("hashchange", show);
  window.addEventListener("scroll", S.hideTip, { passive: true });

  theme(saved());
  if (S.index) show();
  else
    main.replaceChildren(S.h("h1", {}, "No data"), S.h("p", {}, "The file data/index.js is missing beside this page. Run seft-bench report again."));
})();
