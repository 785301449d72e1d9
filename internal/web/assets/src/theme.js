// The theme button posts a form without this script; with it the page changes
// at once. The choice lives in a cookie so that the server draws it right away.
const next = { auto: "light", light: "dark", dark: "auto" };

export function startTheme() {
  document.addEventListener("submit", (e) => {
    const form = e.target.closest("form[data-theme-form]");
    if (!form) return;
    e.preventDefault();
    const root = document.documentElement;
    const theme = next[root.dataset.theme] ?? "light";
    root.dataset.theme = theme;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `holdfast_theme=${theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    form.elements.theme.value = next[theme];
    form.querySelector("button").setAttribute("aria-label", `Theme: ${theme}. Change to ${next[theme]}.`);
    document.dispatchEvent(new CustomEvent("hf:theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change",
    () => document.dispatchEvent(new CustomEvent("hf:theme")));
}
