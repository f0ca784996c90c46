//! Addresses show their destination, and none of their secrets.

use expect_test::expect;

use crate::address::Address;

const SECRET: &str = "hunter2";
const ADDRESSES: [&str; 24] = [
    "postgres://ada:hunter2@db:5432/x?sslmode=require",
    "postgres://ada:hun@hunter2@db/x",
    "postgres://ada:hun/hunter2@db/x",
    "postgres://:hunter2@db/x",
    "postgres://db/x?user=ada&password=hunter2",
    "postgres://db/x?pasword=hunter2&sslmode=require",
    "postgres://db/x?p%61ssword=hunter2",
    "postgres://db/x?hunter2",
    "postgres://db/x#hunter2",
    "postgres:ada:hunter2@db/x",
    "sqlite:///data/a#b.db?mode=rw&key=hunter2",
    "nats://u:hunter2@h:4222",
    "nats://h?token=hunter2",
    "tls://h:4222/hunter2",
    "redis://:hunter2@h/3?protocol=resp3",
    "rediss://h/3?token=hunter2#hunter2",
    "https://hooks.example/services/T0/hunter2",
    "https://hooks.example/?token=hunter2",
    "https://hooks.example#hunter2",
    "https://hunter2@hooks.example/",
    "https://ada:hunter2@hooks.example:8443/x?mode=hunter2",
    "htps://hooks.example/hunter2",
    "HTTPS://hooks.example/hunter2",
    "h:6379?token=hunter2",
];

#[test]
fn secrets_are_never_shown() {
    let mut shown = String::new();
    for text in ADDRESSES {
        let address = Address::new(text);
        assert_eq!(address.reveal(), text);
        assert_eq!(format!("{address:?}"), format!("{:?}", address.to_string()));
        shown.push_str(&format!("{address}\n"));
    }
    assert!(!shown.contains(SECRET), "{shown}");
    expect![[r#"
        postgres://ada@db:5432/x?sslmode=require
        postgres://ada@db/x
        postgres://ada@db/x
        postgres://@db/x
        postgres://db/x?user=ada&password=...
        postgres://db/x?pasword=...&sslmode=require
        postgres://db/x?p%61ssword=...
        postgres://db/x?...
        postgres://db/x#...
        postgres:ada@db/x
        sqlite:///data/a#b.db?mode=rw&key=...
        nats://u@h:4222
        nats://h/...
        tls://h:4222/...
        redis://@h/3?protocol=resp3
        rediss://h/3?token=...#...
        https://hooks.example/...
        https://hooks.example/...
        https://hooks.example/...
        https://...@hooks.example/
        https://...@hooks.example:8443/...
        htps://hooks.example/...
        HTTPS://hooks.example/...
        h:6379?token=...
    "#]]
    .assert_eq(&shown);
}

#[test]
fn addresses_without_secrets_are_shown_whole() {
    for plain in [
        "sqlite://data/tidemill.db",
        "postgres://ada@db:5432/x?sslmode=require",
        "postgres://db/x",
        "nats://u@h:4222",
        "rediss://u@h/3",
        "https://h/",
        "http://127.0.0.1:9000",
        "h:6379",
        "x",
        "",
    ] {
        assert_eq!(Address::new(plain).to_string(), plain);
    }
    assert_eq!(Address::new("nats://token@h").anonymous().to_string(), "nats://h");
    assert_eq!(Address::new("nats://h").anonymous().to_string(), "nats://h");
}

#[test]
fn repeated_addresses_are_masked() {
    // In these two, the password is longer than `SECRET`.
    for text in ADDRESSES.into_iter().filter(|text| !text.contains("hun@") && !text.contains("hun/")) {
        let address = Address::new(text);
        let error = format!("bad uri: {text}; Cannot POST /services/T0/{SECRET}?token={SECRET}: {SECRET}");
        let masked = address.mask(&error);
        assert!(!masked.contains(SECRET), "{text}: {masked}");
        assert!(masked.starts_with("bad uri: "), "{text}: {masked}");
    }
    let plain = Address::new("https://h/");
    assert_eq!(plain.mask("connection refused at h"), "connection refused at h");
}
