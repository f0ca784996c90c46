//! Host check of every request. The server listens on loopback, where tokens protect writes and reads are open.
//! The threat is other pages in the same browser: names that were rebound to loopback, and forms sent across sites.

use std::net::SocketAddr;

use crate::http::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// No inline script or style, no content of other origins, no embedding in frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

pub async fn check(State(listen): State<SocketAddr>, request: Request, next: Next) -> Response {
    let mut response = match refuse(listen, &request) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refuse(listen: SocketAddr, request: &Request) -> Option<ApiError> {
    let headers = request.headers();
    let host = text(headers, header::HOST);
    // A request line with an absolute address names a host, too, and some proxies use it.
    let named = request.uri().authority().map(|authority| authority.as_str());
    let allowed =
        host.is_some_and(|host| is_ours(host, listen)) && named.is_none_or(|named| is_ours(named, listen));
    if !allowed {
        let detail = format!(
            "{:?} is not a name of this host: use http://{listen}",
            named.or(host).unwrap_or_default()
        );
        return Some(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host-not-allowed", detail));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && is_cross_site(headers, host.unwrap_or_default()) {
        let detail = "a page of another site may not change anything here";
        return Some(ApiError::new(StatusCode::FORBIDDEN, "cross-site", detail));
    }
    None
}

/// Loopback by name or number, with any port (it may be forwarded), or the listening address.
fn is_ours(host: &str, listen: SocketAddr) -> bool {
    if host.parse::<SocketAddr>().is_ok_and(|address| address == listen) {
        return true;
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_is_one = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let name_is_ours = ["127.0.0.1", "[::1]"].contains(&name) || name.eq_ignore_ascii_case("localhost");
    port_is_one && name_is_ours
}

/// Browsers send the origin of a request in at least one of two headers; other clients send neither.
fn is_cross_site(headers: &HeaderMap, host: &str) -> bool {
    let from_elsewhere = match text(headers, HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site != "same-origin" && site != "none",
        None => headers.contains_key("sec-fetch-site"),
    };
    let other_origin = match text(headers, header::ORIGIN) {
        Some(origin) => !origin.eq_ignore_ascii_case(&format!("http://{host}")),
        None => headers.contains_key(header::ORIGIN),
    };
    from_elsewhere || other_origin
}

/// The header's text, if the header occurs once and is readable.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}
