//! The page in a real browser, through WebDriver: Debian's Chromium and its driver.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::needs;
use tokio::process::{Child, Command};

use crate::support::http;
use crate::support::process::free_port;
use crate::support::site::Site;
use crate::support::wait::until;

/// The Enter key in WebDriver's encoding.
const ENTER: &str = "\u{e007}";
/// Number of open tabs: a browser opens at most six connections to a host, for all tabs together.
const TABS: usize = 20;
const ARGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with its own profile; killed when dropped.
struct Browser {
    session: String,
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    async fn start() -> Browser {
        let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
        let driver = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "chromedriver", &format!("--port={port}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect(
                "these tests need chromedriver: run `cargo xtask test`, or install Debian's chromium-driver",
            );
        let url = format!("http://127.0.0.1:{port}");
        let status = format!("{url}/status");
        until("the driver is ready", async || ask(&status, None).await.is_ok()).await;
        let args: Vec<String> = ARGS.iter().map(|arg| (*arg).to_owned()).collect();
        let args = [args, vec![format!("--user-data-dir={}", profile.path().display())]].concat();
        let wanted = json!({ "alwaysMatch": { "goog:chromeOptions": { "args": args } } });
        let session = ask(&format!("{url}/session"), Some(json!({ "capabilities": wanted }))).await.unwrap();
        let session = format!("{url}/session/{}", session["sessionId"].as_str().unwrap());
        Browser { session, _driver: driver, _profile: profile }
    }

    async fn tell(&self, command: &str, body: Value) -> Value {
        ask(&format!("{}/{command}", self.session), Some(body)).await.unwrap()
    }

    /// Opens this page in a new tab and returns the tab's handle.
    async fn open(&self, url: &str) -> String {
        let tab =
            self.tell("window/new", json!({ "type": "tab" })).await["handle"].as_str().unwrap().to_owned();
        self.go_to(&tab).await;
        self.tell("url", json!({ "url": url })).await;
        // The command may return for the empty page that a new tab shows first.
        let loaded = format!("document.readyState === 'complete' && location.href === {}", json!(url));
        until("the page is loaded", async || self.evaluate(&loaded).await == true).await;
        tab
    }

    async fn go_to(&self, tab: &str) {
        self.tell("window", json!({ "handle": tab })).await;
    }

    async fn evaluate(&self, expression: &str) -> Value {
        self.tell("execute/sync", json!({ "script": format!("return {expression}"), "args": [] })).await
    }

    /// Types into the one element that matches, as a person would.
    async fn type_into(&self, selector: &str, text: &str) {
        let found = self.tell("element", json!({ "using": "css selector", "value": selector })).await;
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.tell(&format!("element/{id}/value"), json!({ "text": text })).await;
    }

    async fn click(&self, selector: &str) {
        let selector = serde_json::to_string(selector).unwrap();
        self.evaluate(&format!("document.querySelector({selector}).click()")).await;
    }

    /// The text of the one element that matches.
    async fn text_of(&self, selector: &str) -> String {
        let selector = serde_json::to_string(selector).unwrap();
        let text = self.evaluate(&format!("document.querySelector({selector}).textContent")).await;
        text.as_str().unwrap().to_owned()
    }

    async fn until_says(&self, selector: &str, wanted: &str) {
        until(wanted, async || self.text_of(selector).await.contains(wanted)).await;
    }

    async fn end(self) {
        let session = self.session.clone();
        let delete = move || ureq::delete(&session).call().map(|_| ());
        tokio::task::spawn_blocking(delete).await.unwrap().unwrap();
    }
}

/// Sends a POST with this body, or a GET without one, and returns WebDriver's answer.
async fn ask(url: &str, body: Option<Value>) -> Result<Value, String> {
    let url = url.to_owned();
    let request = move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into();
        let answer = match body {
            Some(body) => agent.post(&url).send_json(body),
            None => agent.get(&url).call(),
        };
        let mut answer = answer.map_err(|e| e.to_string())?;
        let mut value: Value = answer.body_mut().read_json().map_err(|e| e.to_string())?;
        Ok(value["value"].take())
    };
    tokio::task::spawn_blocking(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_tabs_are_live() {
    needs!(Product);
    let site = Site::new("[jobs.noop]\nplugin = \"noop\"\n");
    site.install("noop", "noop");
    let host = site.serve().await;
    site.until_active("noop").await;
    let browser = Browser::start().await;
    let url = format!("http://{}/", site.address);
    let mut tabs = Vec::new();
    for _ in 0..TABS {
        tabs.push(browser.open(&url).await);
    }
    let shows = async |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        let live = "(document.documentElement.dataset.link === 'live')";
        let there = format!("{live} && document.querySelector('main').textContent.includes({text})");
        browser.evaluate(&there).await == true
    };
    for tab in &tabs {
        browser.go_to(tab).await;
        until("a tab shows the job", async || shows("plugin noop").await).await;
    }
    assert_eq!(http::post(site.address, "/api/v1/jobs/noop/pause", "{}").await.status, 200);
    for tab in &tabs {
        browser.go_to(tab).await;
        until("a tab shows the pause", async || shows("paused by local").await).await;
    }
    // The page's own buttons work in each tab, even while all other tabs poll.
    browser.evaluate("document.querySelector('#by-hand button[value=resume]').click()").await;
    for tab in &tabs {
        browser.go_to(tab).await;
        until("a tab shows that the job goes on", async || !shows("paused by local").await).await;
    }
    let errors = browser
        .evaluate("performance.getEntriesByType('resource').filter(e => e.responseStatus >= 400).length");
    assert_eq!(errors.await, 0);
    browser.end().await;
    host.terminate().await;
}

async fn count(site: &Site, path: &str, list: &str) -> usize {
    http::get(site.address, path).await.json()[list].as_array().unwrap().len()
}

/// Enter presses the first submit button of a form, so that button must be the one for the field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enter_in_a_field_does_what_the_field_is_for() {
    needs!(Product);
    let site = Site::new("[jobs.noop]\nplugin = \"noop\"\n");
    let host = site.serve().await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", site.address)).await;
    let defaults = browser
        .evaluate(
            "Array.from(document.forms, form => {
                const first = Array.from(form.elements).find(e => e.type === 'submit');
                return (form.id || form.parentElement.id) + ': ' + (first ? first.value : 'none');
            }).join(', ')",
        )
        .await;
    assert_eq!(defaults, "by-hand: add, token: use");

    browser.type_into("#by-hand input[name=key]", ENTER).await;
    browser.until_says("#said", "enter the item's key").await;
    browser.type_into("#by-hand input[name=key]", &format!("a/b{ENTER}")).await;
    browser.until_says("#said", "\"a/b\" is added to noop").await;
    assert_eq!(count(&site, "/api/v1/items", "items").await, 1);
    assert_eq!(count(&site, "/api/v1/runs", "runs").await, 0);
    assert_eq!(http::get(site.address, "/api/v1/jobs").await.json()["jobs"][0]["paused"], Value::Null);

    // The buttons work as labelled, and the page reports work that does not start yet.
    browser.click("#by-hand button[value=run]").await;
    browser.until_says("#said", "a run of noop is added, but waits: job noop cannot run on this host").await;
    assert_eq!(count(&site, "/api/v1/runs", "runs").await, 1);
    browser.click("#by-hand button[value=pause]").await;
    browser.until_says("#said", "noop is paused").await;
    assert_eq!(http::post(site.address, "/api/v1/pause", "{}").await.status, 200);
    browser.click("#by-hand button[value=resume]").await;
    browser.until_says("#said", "job noop remains paused, and nothing has changed").await;
    browser.end().await;
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_token_is_reported() {
    needs!(Product);
    let site = Site::new("[jobs.noop]\nplugin = \"noop\"\n");
    let host = site.serve().await;
    let reserved = site.ask_here(&["token", "add", "local"]).await;
    assert_eq!(reserved.status.code(), Some(2), "the trail means somebody without a token by it");
    let added = site.ask_here(&["token", "add", "ada"]).await;
    let token = String::from_utf8(added.stdout).unwrap().trim().to_owned();
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", site.address)).await;
    let asks = "document.getElementById('token').open";
    browser.click("#by-hand button[value=run]").await;
    browser.until_says("#refused", "a token is needed").await;
    until("the page asks", async || browser.evaluate(asks).await == true).await;
    for wrong in ["wrong", "wrong again"] {
        browser.type_into("#token input", &format!("{wrong}{ENTER}")).await;
        // A typed token leaves the field when it is used, and a refused token is not kept.
        let again = format!(
            "{asks} && document.querySelector('#token input').value === '' && sessionStorage.getItem('tidemill-token') === null"
        );
        until("the page asks again", async || browser.evaluate(&again).await == true).await;
        browser.until_says("#refused", "the token is not known").await;
        browser.until_says("#said", "the token is not known").await;
    }
    // A typed token is not used if the dialog is closed, by the button or by the Escape key.
    for close in ["cancel", "escape"] {
        browser.type_into("#token input", "typed").await;
        match close {
            "cancel" => browser.click("#token button[value=cancel]").await,
            _ => browser.type_into("#token input", "\u{e00c}").await,
        }
        until("it is closed", async || browser.evaluate(asks).await == false).await;
        assert_eq!(
            browser.evaluate("sessionStorage.getItem('tidemill-token')").await,
            Value::Null,
            "{close}"
        );
        browser.click("#by-hand button[value=run]").await;
        browser.until_says("#refused", "a token is needed").await;
        until("the page asks again", async || browser.evaluate(asks).await == true).await;
    }
    assert_eq!(count(&site, "/api/v1/runs", "runs").await, 0);
    browser.type_into("#token input", &format!("{token}{ENTER}")).await;
    browser.until_says("#said", "a run of noop is added").await;
    assert_eq!(count(&site, "/api/v1/runs", "runs").await, 1);
    browser.end().await;
    host.terminate().await;
}
