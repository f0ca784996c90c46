//! The page: strict headers, nothing inline, and text of guests shown as text.

use axum::body::to_bytes;
use axum::http::StatusCode;
use domain::failure::ErrorInfo;
use expect_test::expect;
use tower::ServiceExt;

use super::world::{World, get, post};
use crate::app::router::router;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_strict_and_nothing_is_inline() {
    let world = World::new().await;
    let page = world.ask(get("/")).await;
    assert_eq!(page.status, StatusCode::OK);
    let names = [
        "content-type",
        "content-security-policy",
        "x-content-type-options",
        "cache-control",
        "referrer-policy",
        "x-frame-options",
    ];
    let shown: Vec<String> =
        names.iter().map(|name| format!("{name}: {}", page.headers[*name].to_str().unwrap())).collect();
    expect![[r#"
        content-type: text/html; charset=utf-8
        content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
        x-content-type-options: nosniff
        cache-control: no-store
        referrer-policy: no-referrer
        x-frame-options: DENY"#]].assert_eq(&shown.join("\n"));
    for inline in ["<script>", " style=", "onclick", "javascript:", "http://", "https://"] {
        assert!(!page.body.contains(inline), "{inline} in the page");
    }
    for path in ["/assets/page.css", "/assets/page.js", "/assets/htmx.js", "/assets/icon.svg"] {
        assert_eq!(world.ask(get(path)).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_of_guests_is_escaped() {
    let attacks = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'-alert(1)-'",
        "</td></table><iframe src=//evil.example>",
        "<svg/onload=alert(1)>",
        "{{7*7}}",
        "&lt;script&gt;",
    ];
    let world = World::new().await;
    world.discover(&attacks).await;
    for _ in attacks {
        world.fail_one(ErrorInfo::new("<b>code</b>", "<script>alert('error')</script>")).await;
    }
    let page = world.ask(get("/page/overview")).await;
    assert_eq!(page.status, StatusCode::OK);
    for tag in ["<script", "<img", "<iframe", "<svg/", "<b>code", "onerror=alert(1)>"] {
        assert!(!page.body.contains(tag), "{tag} in {}", page.body);
    }
    assert!(page.body.contains("alert(&#39;error&#39;)"), "the error is shown: {}", page.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview() {
    let world = World::new().await;
    world.discover(&["a", "b", "c"]).await;
    world.fail_one(ErrorInfo::new("busy", "try later")).await;
    let page = world.ask(get("/page/overview")).await;
    // The guests' memory allocator depends on the machine.
    let body = page.body.replace(world.state.sandbox.allocator(), "(allocator)");
    let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    expect![[r#"
        <div class="facts" id="shown" data-version="<id>">
        <span>host <b><id></b></span>
        <span class="good">host <b>ready</b></span>
        <span>guests' memory <b>(allocator)</b></span>
        <span>2026-11-20T12:00:30Z</span>
        </div>
        <h2>Jobs</h2>
        <div class="jobs">
        <section class="card">
        <h3>wallet</h3>
        <p class="quiet">cron * * * * * (Europe/Berlin), next in 30 s</p>
        <p class="bad">cannot run: there is no plugin &#34;wallet-keygen&#34;</p>
        <svg class="bar" viewBox="0 0 1000 1" preserveAspectRatio="none" role="img" aria-label="items by state">
        <rect x="0" width="664" height="1" class="fill-pending"></rect><rect x="664" width="336" height="1" class="fill-retrying"></rect>
        </svg>
        <ul class="legend">
        <li><svg viewBox="0 0 1 1"><rect width="1" height="1" class="fill-pending"></rect></svg>pending <b>2</b></li><li><svg viewBox="0 0 1 1"><rect width="1" height="1" class="fill-retrying"></rect></svg>retrying <b>1</b></li>
        </ul>
        </section>
        </div>
        <h2>Open alerts</h2>
        <div class="table">
        <p class="empty">None.</p>
        </div>
        <h2>Each job's last run that found work</h2>
        <div class="table">
        <table>
        <thead><tr><th>job</th><th>started</th><th>by</th><th>state</th><th>progress</th><th>summary</th></tr></thead>
        <tbody>
        <tr>
        <td class="name">wallet</td><td class="time">0 s ago</td><td>test</td><td>running</td>
        <td class="number"><svg class="progress" viewBox="0 0 3 1" preserveAspectRatio="none" role="img" aria-label="0 of 3 done, 0 failed for good"><rect width="0" height="1" class="fill-resolved"></rect><rect x="0" width="0" height="1" class="fill-manual_required"></rect></svg> 1/3</td>
        <td class="long">found 3, attempted 1 of 3, skipped 0</td>
        </tr>
        </tbody>
        </table>
        </div>
        <h2>Recent failures</h2>
        <div class="table">
        <table>
        <thead><tr><th>job</th><th>item</th><th>state</th><th>attempts</th><th>last</th><th>next</th><th>error</th><th></th></tr></thead>
        <tbody>
        <tr>
        <td class="name">wallet</td><td class="long">a</td><td>retrying</td><td class="number">1</td>
        <td class="time">0 s ago</td><td class="time">in 10 s</td><td class="long bad">busy: try later</td>
        <td class="acts"><button id="retry-<id>" data-post="/api/v1/items/wallet/a/retry" data-done="due now">retry</button>
        <button id="resolve-<id>" data-post="/api/v1/items/wallet/a/resolve" data-done="resolved manually">resolve</button>
        <button id="abandon-<id>" data-post="/api/v1/items/wallet/a/abandon" data-done="given up" data-ask="Abandon this item? It will not be tried again automatically.">abandon</button></td>
        </tr>
        </tbody>
        </table>
        </div>
        <h2>Plugin versions</h2>
        <div class="table">
        <p class="empty">No plugin was found: put a .wasm file into the plugins folder.</p>
        </div>"#]].assert_eq(&world.mask(&lines.join("\n")));
}

/// A page sends a request every second: the response has content only after a change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overview_that_did_not_change_is_not_sent_again() {
    let world = World::new().await;
    let router = router(world.state.clone());
    let ask = async |path: &str| {
        let response = router.clone().oneshot(get(path)).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let (status, shown) = ask("/page/overview").await;
    assert_eq!(status, StatusCode::OK);
    let (_, rest) = shown.split_once("data-version=\"").unwrap();
    let (version, _) = rest.split_once('"').unwrap();
    let path = format!("/page/overview?seen={version}");
    assert_eq!(ask(&path).await, (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(ask("/page/overview?seen=other").await, (StatusCode::OK, shown));
    let paused = router.clone().oneshot(post("/api/v1/pause", "{}")).await.unwrap();
    assert_eq!(paused.status(), StatusCode::OK);
    let changed = async {
        loop {
            if let (StatusCode::OK, changed) = ask(&path).await {
                return changed;
            }
        }
    };
    let changed = tokio::time::timeout(std::time::Duration::from_secs(4), changed).await;
    assert!(changed.unwrap().contains("paused by local"));
}
