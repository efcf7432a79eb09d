// What every view shares: data files loaded on demand, elements made without markup, routes in the address.
// Texts of models are hostile: they reach the page as text nodes only, never as markup, and nothing here builds markup from strings.
"use strict";
const seftBench = (() => {
  const delivered = new Map(),
    waiting = new Map();

  function deliver(name, data) {
    delivered.set(name, data);
    const waiter = waiting.get(name);
    if (waiter) waiter(data);
  }

  // Trusted Types, where the browser has them: the only scripts that may be added are our own data files.
  const PART = /^[a-z]+\/[0-9-]+$/;
  const checked = (name) => {
    if (!PART.test(name)) throw new TypeError("not a data file: " + name);
    return "data/" + name + ".js";
  };
  const policy = window.trustedTypes ? window.trustedTypes.createPolicy("seft-bench", { createScriptURL: checked }) : { createScriptURL: checked };

  const loading = new Map();
  function need(name) {
    if (delivered.has(name)) return Promise.resolve(delivered.get(name));
    if (!loading.has(name))
      loading.set(
        name,
        new Promise((resolve, reject) => {
          const script = document.createElement("script");
          waiting.set(name, resolve);
          script.addEventListener("error", () => {
            loading.delete(name);
            reject(new Error("The file data/" + name + ".js is missing beside this page."));
          });
          script.src = policy.createScriptURL(name);
          document.head.append(script);
        }),
      );
    return loading.get(name);
  }
  const needAll = (kind, count) => Promise.all(Array.from({ length: count }, (_, part) => need(kind + "-" + part))).then((parts) => parts.flat());

  // Control characters, bidirectional overrides and lone surrogates are written out, as in the terminal's tables.
  const HIDDEN = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
  const escapeOf = (character) => {
    const code = character.codePointAt(0).toString(16);
    return code.length <= 2 ? "\\x" + code.padStart(2, "0") : "\\u" + code.padStart(4, "0");
  };
  const shown = (text) => String(text).replace(/\r\n/g, "\n").replace(HIDDEN, escapeOf);

  const SVG = "http://www.w3.org/2000/svg";
  function fill(element, properties, children) {
    for (const [name, value] of Object.entries(properties || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
      else element.setAttribute(name, value === true ? "" : shown(value));
    }
    append(element, children);
    return element;
  }
  function append(element, children) {
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      element.append(child instanceof Node ? child : document.createTextNode(shown(child)));
    }
  }
  const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
  const svg = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

  const formats = new Map(); // making one costs far more than using it
  function number(value, decimals, signed) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
    const digits = decimals === null || decimals === undefined ? 0 : decimals;
    if (!formats.has(digits)) formats.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
    const text = formats.get(digits).format(Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value);
    return (signed && !text.startsWith("-") ? "+" + text : text).replace("-", "\u2212");
  }

  // Routes: #/view/part/part?name=value. A question's id may hold anything, so only our own parameters are cut off.
  const decode = (text) => {
    try {
      return decodeURIComponent(text);
    } catch (error) {
      return text;
    }
  };
  function route() {
    const hash = location.hash.startsWith("#/") ? location.hash.slice(2) : "";
    const cut = hash.search(/\?(?:models|panel|all)=[^?]*$/);
    const path = cut < 0 ? hash : hash.slice(0, cut);
    const parts = path.split("/");
    const rest = parts.length > 3 ? [parts[0], parts[1], parts.slice(2).join("/")] : parts;
    return {
      view: rest[0] || "leaderboard",
      parts: rest
        .slice(1)
        .filter((part) => part !== "")
        .map(decode),
      params: new URLSearchParams(cut < 0 ? "" : hash.slice(cut + 1)),
    };
  }
  function link(view, parts, params) {
    const given = Object.entries(params || {}).filter(([, value]) => value !== null && value !== undefined && value !== "");
    const query = given
      .map(([name, value]) => name + "=" + encodeURIComponent(value).replace(/%40/g, "@").replace(/%2C/g, ",").replace(/%2F/g, "/"))
      .join("&");
    return "#/" + [view, ...(parts || []).map(encodeURIComponent)].join("/") + (query ? "?" + query : "");
  }
  function go(hash, replace) {
    if (replace) {
      history.replaceState(null, "", hash);
      window.dispatchEvent(new Event("hashchange"));
    } else location.hash = hash;
  }

  return {
    deliver,
    need,
    needAll,
    shown,
    h,
    svg,
    append,
    number,
    route,
    link,
    go,
    views: {},
    get index() {
      return delivered.get("index");
    },
  };
})();
