use crate::origin::{Origin, OriginError, name_may_mean, reach};

fn shown(text: &str) -> Result<String, OriginError> {
    text.parse::<Origin>().map(|origin| origin.to_string())
}

#[test]
fn origins_have_one_spelling() {
    let same = [
        ("http://127.0.0.1:7401", "http://127.0.0.1:7401"),
        ("http://Stock.Example.com:80/", "http://stock.example.com"),
        ("https://stock.example.com:443", "https://stock.example.com"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost", "http://localhost"),
        ("http://ledger_1:9000", "http://ledger_1:9000"),
    ];
    for (text, expected) in same {
        assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn invalid_origins_are_refused() {
    let cases = [
        ("stock.example.com", OriginError::Scheme),
        ("ftp://stock.example.com", OriginError::Scheme),
        ("HTTP://stock.example.com", OriginError::Scheme),
        ("http://stock.example.com/api", OriginError::More),
        ("http://user:secret@stock.example.com", OriginError::More),
        ("http://stock.example.com?x", OriginError::More),
        ("http://", OriginError::Host),
        ("http://*.example.com", OriginError::Host),
        ("http://a..b", OriginError::Host),
        ("http://127.1", OriginError::Host),
        ("http://2130706433", OriginError::Host),
        ("http://0x7f.0.0.1", OriginError::Host),
        ("http://[::1", OriginError::Port),
        ("http://[1.2.3.4]", OriginError::Host),
        ("http://a:0", OriginError::Port),
        ("http://a:65536", OriginError::Port),
        ("http://a:+80", OriginError::Port),
        ("http://a:b:80", OriginError::Port),
    ];
    for (text, expected) in cases {
        assert_eq!(shown(text), Err(expected), "{text}");
    }
}

#[test]
fn a_grant_names_its_methods_or_means_all() {
    let allows = |text: &str, method: &str| reach(text).unwrap().1.allow(method);
    assert!(allows("https://a.example", "DELETE"));
    assert!(allows("GET,HEAD https://a.example", "HEAD") && !allows("GET,HEAD https://a.example", "POST"));
    assert_eq!(reach("GET,HEAD https://a.example").unwrap().0, "https://a.example".parse().unwrap());
    for text in ["get https://a.example", "GET, HEAD https://a.example", "TRACE https://a.example"] {
        assert_eq!(reach(text), Err(OriginError::Method), "{text}");
    }
    assert_eq!(reach(" https://a.example"), Err(OriginError::Method));
    assert_eq!(reach("GET a.example"), Err(OriginError::Scheme));
}

#[test]
fn names_reach_public_addresses_and_private_ones_if_granted() {
    let reached = |text: &str, private| name_may_mean("stock.example.com", text.parse().unwrap(), private);
    for public in ["1.1.1.1", "100.63.0.1", "172.32.0.1", "2606:4700::1", "2001:4860:4860::8888"] {
        assert!(reached(public, false) && reached(public, true), "{public}");
    }
    for private in ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"] {
        assert!(!reached(private, false) && reached(private, true), "{private}");
    }
    let never = [
        "0.0.0.0",
        "127.0.0.1",
        "169.254.169.254",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "203.0.113.7",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "fe80::1",
        "ff02::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:4136:e378::1",
        "2001:db8::1",
    ];
    for address in never {
        assert!(!reached(address, false) && !reached(address, true), "{address}");
    }
}

#[test]
fn localhost_is_this_machine_and_nothing_else() {
    let reached = |text: &str| name_may_mean("localhost", text.parse().unwrap(), true);
    assert!(reached("127.0.0.1") && reached("::1"));
    assert!(!reached("10.0.0.1") && !reached("1.1.1.1"));
}
