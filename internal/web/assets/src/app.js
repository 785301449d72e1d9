// What every page runs: times that keep counting, the live connection, the
// theme switch and a few keys. Pages work without any of it.
import { startTimes } from "./times.js";
import { startLive } from "./live.js";
import { startTheme } from "./theme.js";
import { startKeys } from "./keys.js";

startTimes();
startTheme();
startKeys();
startLive();
// A narrow page scrolls its tabs sideways: the one that is shown comes into sight.
document.querySelector("nav.steps [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center", behavior: "instant" });
document.documentElement.classList.add("js");
