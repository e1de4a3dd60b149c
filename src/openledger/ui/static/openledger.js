// Theme, navigation drawer, tooltips and copy buttons. Plain listeners on the document, so that they serve every page alike.
(() => {
  "use strict";
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  const remembered = (key) => {
    try { return localStorage.getItem(`openledger.${key}`); } catch { return null; }
  };
  const remember = (key, value) => {
    try { localStorage.setItem(`openledger.${key}`, value); } catch { /* private browsing: not remembered */ }
  };

  function applyTheme() {
    const theme = remembered("theme") ?? (prefersDark.matches ? "dark" : "light");
    root.dataset.theme = theme;
    window.Quasar?.Dark.set(theme === "dark");
    window.dispatchEvent(new CustomEvent("openledger-theme"));
  }

  function toggleTheme() {
    remember("theme", root.dataset.theme === "dark" ? "light" : "dark");
    applyTheme();
  }

  const narrow = matchMedia("(max-width: 860px)");
  function openDrawer(open) {
    root.dataset.drawer = open ? "open" : "closed";
    for (const button of document.querySelectorAll("[data-drawer-toggle]")) {
      button.setAttribute("aria-expanded", String(open));
    }
    if (open) document.querySelector(".sidebar a")?.focus();
  }
  function toggleRail() {
    root.dataset.rail = root.dataset.rail === "on" ? "off" : "on";
    remember("rail", root.dataset.rail);
  }

  async function copy(button) {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.dataset.done = "true";
    show(button, "Copied");
    setTimeout(() => { delete button.dataset.done; hide(); }, 1200);
  }

  let bubble;
  function show(target, text) {
    if (!bubble) {
      bubble = Object.assign(document.createElement("div"), { className: "tooltip" });
      bubble.setAttribute("role", "tooltip");
      document.body.append(bubble);
    }
    bubble.textContent = text;
    bubble.hidden = false;
    const at = target.getBoundingClientRect();
    const size = bubble.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 8);
    const above = at.top - size.height - 8;
    bubble.style.left = `${left}px`;
    bubble.style.top = `${above > 8 ? above : at.bottom + 8}px`;
  }
  function hide() {
    if (bubble) bubble.hidden = true;
  }
  const tipped = (event) => (event.target instanceof Element ? event.target.closest("[data-tip]") : null);

  document.addEventListener("pointerover", (event) => {
    const target = tipped(event);
    if (target) show(target, target.dataset.tip);
    else hide();
  });
  document.addEventListener("focusin", (event) => {
    const target = tipped(event);
    if (target?.matches(":focus-visible")) show(target, target.dataset.tip);
    else hide();
  });
  document.addEventListener("scroll", hide, { passive: true, capture: true });

  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const on = (selector) => event.target.closest(selector);
    const copied = on("[data-copy]");
    if (copied) {
      event.preventDefault();
      copy(copied);
    } else if (on("[data-theme-toggle]")) toggleTheme();
    else if (on("[data-rail-toggle]")) toggleRail();
    else if (on("[data-drawer-toggle]")) openDrawer(root.dataset.drawer !== "open");
    else if (on(".scrim")) openDrawer(false);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    hide();
    if (root.dataset.drawer === "open") {
      openDrawer(false);
      document.querySelector(".topbar [data-drawer-toggle]")?.focus();
    }
  });

  prefersDark.addEventListener("change", applyTheme);
  narrow.addEventListener("change", () => openDrawer(false));
  addEventListener("storage", (event) => { if (event.key === "openledger.theme") applyTheme(); });
  addEventListener("DOMContentLoaded", applyTheme);
  root.dataset.rail = remembered("rail") ?? "off";
  applyTheme();
})();
