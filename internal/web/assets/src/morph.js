// morph makes `from` look like `to` by touching only what differs, so that
// focus, selection and scrolling survive a live update.
export function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(to);
    return to;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return from;
  }
  for (const a of [...from.attributes]) if (!to.hasAttribute(a.name)) from.removeAttribute(a.name);
  for (const a of to.attributes) if (from.getAttribute(a.name) !== a.value) from.setAttribute(a.name, a.value);
  const olds = [...from.childNodes], news = [...to.childNodes];
  if (olds.length === news.length) {
    olds.forEach((o, i) => morph(o, news[i]));
  } else {
    from.replaceChildren(...news);
  }
  return from;
}
