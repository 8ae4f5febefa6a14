// Runs before the first paint, so that nobody sees the wrong colours flash by.
"use strict";
(() => {
  let theme = "auto";
  try {
    theme = localStorage.getItem("classy.theme") || "auto";
  } catch { /* storage is off: the system's colours */ }
  document.documentElement.dataset.theme = theme;
})();
