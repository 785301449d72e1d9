// Keys: "/" goes to the search box; up and down walk the rows of a list.
export function startKeys() {
  document.addEventListener("keydown", (e) => {
    const typing = e.target.closest?.("input, textarea, select, [contenteditable]");
    if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
      const box = document.querySelector("input[type=search]");
      if (box) { e.preventDefault(); box.focus(); box.select(); }
      return;
    }
    if (e.key === "Escape" && e.target.matches?.("input[type=search]")) { e.target.blur(); return; }
    if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    const link = e.target.closest?.("[data-rows] a[data-row]");
    if (!link) return;
    const links = [...link.closest("[data-rows]").querySelectorAll("a[data-row]")];
    const to = links[links.indexOf(link) + (e.key === "ArrowDown" ? 1 : -1)];
    if (to) { e.preventDefault(); to.focus(); }
  });
}
