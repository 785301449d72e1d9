// Keeps one stand-in's messages on the page as they are, and presses its buttons.
(() => {
  const base = document.currentScript.src.replace(/\/panel\.js$/, "");
  const id = new URL(base).pathname.split("/")[1];
  const box = document.querySelector(`#${CSS.escape(id)} .chat`);
  let shown = "";

  async function refresh() {
    try {
      const html = await (await fetch(base + "/messages")).text();
      if (html !== shown) box.innerHTML = shown = html;
    } catch {
      // The demo was stopped; the last messages stay.
    }
  }

  box.addEventListener("click", async (e) => {
    const button = e.target.closest("button");
    if (!button) return;
    button.disabled = true;
    const said = await fetch(base + "/press", { method: "POST", body: new URLSearchParams({ button: button.value }) });
    if (!said.ok) button.textContent = await said.text();
    await refresh();
  });

  refresh();
  setInterval(refresh, 1000);
})();
