// Runs in the browser, where nothing else of ours does: what a page's layout and colours are, as its reader meets them.
(() => {
  const channels = (color) => {
    const [red = 0, green = 0, blue = 0, alpha = 1] = (color.match(/[\d.]+/g) ?? []).map(Number);
    return { red, green, blue, alpha };
  };
  // WCAG 2.2, relative luminance.
  const luminance = ({ red, green, blue }) => {
    const [r, g, b] = [red, green, blue].map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const ground = channels(getComputedStyle(at).backgroundColor);
      if (ground.alpha === 1) return ground;
      if (ground.alpha > 0) throw new Error('a ground that is seen through');
    }
    return { red: 255, green: 255, blue: 255, alpha: 1 };
  };
  const contrast = (element) => {
    const [one, other] = [luminance(channels(getComputedStyle(element).color)), luminance(groundOf(element))].sort((a, b) => b - a);
    return (one + 0.05) / (other + 0.05);
  };
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    if (node.textContent.trim() !== '') texts.push({ text: node.textContent.trim().slice(0, 60), contrast: contrast(node.parentElement) });
  }
  const page = document.documentElement;
  const edges = [...document.body.querySelectorAll('*')].filter((element) => {
    const { right, left, width } = element.getBoundingClientRect();
    return width > 1 && (right > page.clientWidth + 1 || left < -1);
  });
  const links = [...document.querySelectorAll('a')].map((link) => link.getBoundingClientRect()).filter(({ width }) => width > 0);
  return {
    scrolls: page.scrollWidth > page.clientWidth,
    outside: edges.map((element) => `${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}`),
    faint: texts.filter((one) => one.contrast < 4.5),
    texts: texts.length,
    smallTargets: links.filter(({ height }) => height < 15).length,
    ids: [...document.querySelectorAll('[id]')].map(({ id }) => id),
    headings: [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map((heading) => Number(heading.tagName.slice(1))),
    labels: [...document.querySelectorAll('[aria-labelledby]')].map((element) => element.getAttribute('aria-labelledby')),
    language: page.lang,
  };
})();
