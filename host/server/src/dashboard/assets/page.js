// Says whether the page is live. Everything else is done by attributes in the markup.
(function () {
  "use strict";
  function show(state) { document.documentElement.dataset.link = state; }
  document.addEventListener("htmx:sseOpen", function () { show("live"); });
  document.addEventListener("htmx:sseError", function () { show("lost"); });
  document.addEventListener("htmx:sendError", function () { show("lost"); });
  document.addEventListener("htmx:afterOnLoad", function () { show("live"); });
})();
