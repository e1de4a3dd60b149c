"""What is measured inside the browser, on the page as it was drawn."""

LOW_CONTRAST = """
() => {
  const channels = (colour) => {
    const srgb = colour.match(/^color\\(srgb ([\\d.e-]+) ([\\d.e-]+) ([\\d.e-]+)(?: \\/ ([\\d.e-]+))?\\)$/);
    if (srgb) return [srgb[1] * 255, srgb[2] * 255, srgb[3] * 255, srgb[4] === undefined ? 1 : +srgb[4]];
    const rgb = colour.match(/[\\d.]+/g).map(Number);
    return [rgb[0], rgb[1], rgb[2], rgb.length > 3 ? rgb[3] : 1];
  };
  const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    if (!element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    if (element.closest(".visually-hidden, .skip, [aria-hidden=true], :disabled, .q-loading-bar")) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const [one, two] = [luminance(over(channels(style.color), below)), luminance(below)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.005) {
      const text = walker.currentNode.textContent.trim().slice(0, 40);
      low.push(`${ratio.toFixed(2)} ${element.className || element.tagName}: ${text}`);
    }
  }
  return [...new Set(low)].slice(0, 10);
}
"""
"""Texts whose contrast with their ground is below WCAG 2.2 AA (4.5, or 3 for large text)."""

UNNAMED = """
() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, [role=tab], [role=img]")]
  .filter((element) => element.checkVisibility({ checkVisibilityCSS: true }))
  .filter((element) => {
    const ids = (element.getAttribute("aria-labelledby") ?? "").split(" ");
    const labelled = ids.map((id) => document.getElementById(id)?.textContent);
    const label = element.labels?.[0]?.textContent ?? element.closest("label")?.textContent;
    const named = [element.getAttribute("aria-label"), element.textContent, element.title, label, ...labelled];
    return !named.some((text) => text?.trim());
  })
  .filter((element) => !element.closest(".q-uploader"))
  .map((element) => element.outerHTML.slice(0, 120))
"""
"""Links, buttons, fields and pictures that a screen reader could not name."""

SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""By how many pixels the page scrolls sideways."""
