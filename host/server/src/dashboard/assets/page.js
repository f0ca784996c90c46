// Shows whether the page is live, and sends its users' decisions. All other behaviour is in the markup's attributes.
(function () {
  "use strict";
  const TOKEN = "tidemill-token";
  const byId = function (id) { return document.getElementById(id); };

  function show(state) { document.documentElement.dataset.link = state; }
  document.addEventListener("htmx:afterRequest", function (event) {
    show(event.detail.successful ? "live" : "lost");
  });
  // The host answers without content if this version is still current.
  document.addEventListener("htmx:configRequest", function (event) {
    const shown = byId("shown");
    if (shown) event.detail.parameters.seen = shown.dataset.version;
  });
  // Browsers slow down hidden pages, so a page is refreshed when it becomes visible.
  document.addEventListener("visibilitychange", function () {
    if (!document.hidden) refresh();
  });

  function refresh() { htmx.trigger("main", "refresh"); }
  // A button must not disappear while it is pressed.
  document.addEventListener("htmx:beforeSwap", function (event) {
    if (document.querySelector("main button:active")) event.detail.shouldSwap = false;
  });

  function say(text, bad) {
    const said = byId("said");
    said.textContent = text;
    said.classList.toggle("bad", bad);
  }

  async function post(path, body, done) {
    const headers = { "content-type": "application/json" };
    const token = sessionStorage.getItem(TOKEN);
    if (token) headers.authorization = "Bearer " + token;
    try {
      const answer = await fetch(path, { method: "POST", headers: headers, body: body });
      const said = await answer.json().catch(function () { return {}; });
      if (answer.ok) {
        refresh();
        const text = said.detail || done;
        return said.waits ? say(text + ", but waits: " + said.waits, true) : say(text, false);
      }
      const why = said.detail || "the host answered " + answer.status;
      say(why, true);
      if (answer.status === 401) {
        sessionStorage.removeItem(TOKEN);
        ask(path, body, done, why);
      }
    } catch (error) {
      say("the host cannot be reached: " + error.message, true);
    }
  }

  // The token stays in this tab, until the tab is closed or the token is refused. The dialog covers the page, so it
  // contains the reason for the request.
  function ask(path, body, done, why) {
    const dialog = byId("token");
    byId("refused").textContent = why;
    dialog.returnValue = "";
    dialog.onclose = function () {
      const token = dialog.querySelector("input").value;
      dialog.querySelector("input").value = "";
      if (dialog.returnValue !== "use" || !token) return;
      sessionStorage.setItem(TOKEN, token);
      post(path, body, done);
    };
    dialog.showModal();
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest("button[data-post]");
    if (!button) return;
    if (button.dataset.ask && !window.confirm(button.dataset.ask)) return;
    post(button.dataset.post, button.dataset.body || "{}", button.dataset.done);
  });

  byId("token").querySelector("form").addEventListener("submit", function (event) {
    event.preventDefault();
    byId("token").close("use");
  });
  byId("token").querySelector("button[value=cancel]").addEventListener("click", function () {
    byId("token").close("cancel");
  });

  function pathOfJob(form) { return "/api/v1/jobs/" + encodeURIComponent(form.job.value); }

  // Each of these actions needs a click on its own button. The form's only submit button adds the named item.
  byId("by-hand").addEventListener("click", function (event) {
    const button = event.target.closest("button[type=button]");
    if (!button) return;
    const job = this.job.value;
    switch (button.value) {
      case "run": return post(pathOfJob(this), "{}", "a run of " + job + " is added");
      case "pause": return post(pathOfJob(this) + "/pause", "{}", job + " is paused");
      case "resume": return post(pathOfJob(this) + "/resume", "{}", job + " is resumed");
    }
  });
  byId("by-hand").addEventListener("submit", function (event) {
    event.preventDefault();
    const key = this.key.value;
    if (!key) return say("enter the item's key", true);
    post(pathOfJob(this) + "/items", JSON.stringify({ key: key }), key + " is an item of " + this.job.value);
  });
})();
