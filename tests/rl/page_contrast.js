// Everything on the page whose contrast with what is behind it is below WCAG's AA, as {what, colour, paper, ratio}:
// texts, https://www.w3.org/TR/WCAG22/#contrast-minimum, and curves, https://www.w3.org/TR/WCAG22/#non-text-contrast
(() => {
  const [TEXT, GRAPHICS] = [4.5, 3];
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

  function channels(colour) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  }

  function luminance(colour) {
    const [red, green, blue] = channels(colour).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function behind(element) {
    for (let place = element; place; place = place.parentElement) {
      const colour = getComputedStyle(place).backgroundColor;
      const [, , , opacity] = channels(colour);
      if (opacity === 255) return colour;
      if (opacity) throw new Error(`half transparent: ${colour}`);
    }
    throw new Error("nothing is behind it");
  }

  function texts() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      const { parentElement: element, textContent: text } = walker.currentNode;
      if (text.trim() && element.checkVisibility({ visibilityProperty: true })) found.push([element, text.trim()]);
    }
    return found;
  }

  function tooFaint(what, colour, paper, least) {
    const [bright, dim] = [luminance(colour), luminance(paper)].sort((one, other) => other - one);
    const ratio = (bright + 0.05) / (dim + 0.05);
    return ratio < least ? [{ what, colour, paper, ratio }] : [];
  }

  const faintTexts = texts().flatMap(([element, text]) => {
    const style = getComputedStyle(element);
    return tooFaint(text, element instanceof SVGElement ? style.fill : style.color, behind(element), TEXT);
  });
  const faintCurves = [...document.querySelectorAll(".curve, .sample path")].flatMap((curve) =>
    tooFaint("curve", getComputedStyle(curve).stroke, behind(curve), GRAPHICS),
  );
  return [...faintTexts, ...faintCurves];
})();
