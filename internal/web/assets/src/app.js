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
document.documentElement.classList.add("js");
