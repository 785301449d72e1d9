// Builds ../dist from src and the pinned npm packages: `npm ci && npm run build`.
// `npm run check` builds into memory and compares, so that what is embedded is
// known to come from these sources.
import { build } from "esbuild";
import { readFileSync, writeFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { dirname, join } from "node:path";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "..", "dist");
const mod = (...p) => join(here, "node_modules", ...p);
const read = (p) => readFileSync(p, "utf8");

const bundle = async (entry) => {
  const r = await build({
    entryPoints: [join(here, "src", entry)],
    bundle: true, minify: true, write: false, format: "iife", legalComments: "none",
    target: ["es2022", "chrome111", "firefox113", "safari16.4"], absWorkingDir: here,
  });
  return r.outputFiles[0].text;
};

// One symbol per line of icons.txt: `name` (outline) or `filled/name`.
const sprite = () => {
  const symbols = read(join(here, "src", "icons.txt")).split("\n").map((l) => l.trim())
    .filter((l) => l && !l.startsWith("#")).map((line) => {
      const filled = line.startsWith("filled/");
      const name = line.replace("filled/", "");
      const svg = read(mod("@tabler", "icons", "icons", filled ? "filled" : "outline", `${name}.svg`));
      const body = svg.replace(/<!--[\s\S]*?-->/g, "").match(/<svg[^>]*>([\s\S]*)<\/svg>/)[1]
        .replace(/<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*\/>/g, "").replace(/\s*\n\s*/g, "");
      const paint = filled ? `fill="currentColor"`
        : `fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"`;
      return `<symbol id="${filled ? "filled-" : ""}${name}" viewBox="0 0 24 24" ${paint}>${body}</symbol>`;
    });
  return `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("\n")}</svg>\n`;
};

const licences = () => ["htmx.org", "uplot", "@tabler/icons"].map((name) => {
  const version = JSON.parse(read(mod(name, "package.json"))).version;
  const file = readdirSync(mod(name)).find((f) => /^licen[cs]e/i.test(f));
  return `${name} ${version}\n\n${read(mod(name, file)).trim()}\n`;
}).join("\n----\n\n");

const files = {
  "app.js": await bundle("app.js"),
  "charts.js": await bundle("charts.js"),
  "app.css": await bundle("app.css"),
  "htmx.js": read(mod("htmx.org", "dist", "htmx.min.js")),
  "icons.svg": sprite(),
  "favicon.svg": read(join(here, "src", "favicon.svg")),
  "LICENSES.txt": licences(),
};

if (process.argv.includes("--check")) {
  const present = readdirSync(dist).filter((f) => f !== "README").sort().join();
  const wrong = Object.keys(files).filter((f) => {
    try { return read(join(dist, f)) !== files[f]; } catch { return true; }
  });
  if (wrong.length || present !== Object.keys(files).sort().join()) {
    console.error(`internal/web/dist is not what its sources build (${wrong.join(", ") || present}). Run: make assets`);
    process.exit(1);
  }
} else {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(dist, name), text);
    console.log(name.padEnd(14), String(text.length).padStart(7));
  }
}
