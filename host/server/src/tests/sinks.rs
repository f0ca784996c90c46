//! Mistakes in `[sinks]`, each with its whole message.

use expect_test::expect;

use super::config::{check, load};
use crate::config::show;

#[test]
fn topics_webhooks_and_tables() {
    check(
        "[datasources.shop]\nurl = \"sqlite://shop.db\"\n[jobs.a]\nplugin = \"a\"\n\
        [sinks.one]\ntopics = [\"A\", \"B\"]\nwebhook = \"ftp://example/hook\"\n\
        [sinks.two]\ntopics = [\"B\"]\nwebhook = \"http://x/\"\ntable = \"t\"\n\
        [sinks.three]\ntopics = []\ntable = \"drop table\"\ndatasource = \"shop\"\n\
        [sinks.four]\ntopics = [\"D\"]\ntable = \"t\"\ntimeout = \"1h\"\ntries_max = 0\n\
        [sinks.five]\ntopics = [\"E\"]\ntable = \"t\"\ndatasource = \"other\"\nurl = 1\n",
        expect![[r#"
            tidemill.toml:7: sinks.one.webhook: "ftp://example/..." is not an address that events can be sent to; use https://… or http://…
            tidemill.toml:8: sinks.two: it has to say exactly once where events go; give one of webhook, table (with datasource), nats and redis
            tidemill.toml:9: sinks.two.topics: topic "B" goes to the sink "one" already; name each topic once
            tidemill.toml:12: sinks.three.topics: the sink has no topics; name them, like topics = ["LedgerPosting"]
            tidemill.toml:14: sinks.three.table: "drop table" is not a table's name; use a-z, 0-9 and _, like "event_inbox"
            tidemill.toml:16: sinks.four.datasource: the table has no datasource; add datasource = "name"
            tidemill.toml:19: sinks.four.timeout: 1h is no time for one try; use 1ms to 5m
            tidemill.toml:20: sinks.four.tries_max: 0 is out of range; use a whole number from 1 to 1000
            tidemill.toml:24: sinks.five.datasource: there is no datasource "other"; add [datasources.other] with its url
            tidemill.toml:25: sinks.five.url: there is no such key; remove it; known here: topics, webhook, signed_with, batch, table, datasource, nats, password, subject, subject_prefix, redis, stream, stream_length_max, tries_max, timeout"#]],
    );
}

#[test]
fn brokers() {
    check(
        "[jobs.a]\nplugin = \"a\"\n\
        [sinks.a]\ntopics = [\"A\"]\nnats = \"http://h\"\n\
        [sinks.b]\ntopics = [\"B\"]\nnats = \"nats://:4222\"\n\
        [sinks.c]\ntopics = [\"C\"]\nnats = \"nats://u:hush@h\"\n\
        [sinks.d]\ntopics = [\"D\"]\nnats = \"nats://u@h\"\n\
        [sinks.e]\ntopics = [\"E\"]\nnats = \"nats://h\"\nsubject = \"a..b\"\n\
        [sinks.f]\ntopics = [\"F f\"]\nnats = \"nats://h\"\n\
        [sinks.g]\ntopics = [\"G\"]\nnats = \"nats://h\"\nsubject = \"g\"\nsubject_prefix = \"x.\"\n\
        [sinks.h]\ntopics = [\"H\"]\nredis = \"h:6379\"\nstream = \"\"\nstream_length_max = 0\n\
        [sinks.i]\ntopics = [\"I\"]\nredis = \"redis://u:hush@h\"\nsubject = \"i\"\n\
        [sinks.j]\ntopics = [\"J\"]\nredis = \"redis://h/x\"\npassword = \"none\"\n\
        [sinks.k]\ntopics = [\"K\"]\nwebhook = \"http://h/\"\nstream_length_max = 5\npassword = \"none\"\n\
        [sinks.l]\ntopics = [\"L\"]\nnats = \"nats://h\"\nredis = \"redis://h\"\n",
        expect![[r#"
            tidemill.toml:5: sinks.a.nats: "http://h": invalid scheme for NATS server URL: http; use nats://host:4222 or tls://host:4222; for a user nats://user@host:4222 and password = "name of a secret"
            tidemill.toml:8: sinks.b.nats: "nats://:4222": NATS server URL is invalid: empty host; use nats://host:4222 or tls://host:4222; for a user nats://user@host:4222 and password = "name of a secret"
            tidemill.toml:11: sinks.c.nats: the address contains a password, which everyone can read; use nats://host:4222 or tls://host:4222; for a user nats://user@host:4222 and password = "name of a secret"
            tidemill.toml:14: sinks.d.nats: a user and a password belong together; use nats://user@host:4222 and password = "name of a secret"
            tidemill.toml:18: sinks.e.subject: "a..b" is no subject that can be published to; use words with a dot between them, like "events.ledger", without spaces, * and >
            tidemill.toml:19: sinks.f.topics: "F f" is no subject that can be published to; rename the topic, or give subject
            tidemill.toml:26: sinks.g.subject_prefix: a subject that is given whole has no prefix; keep one of the two
            tidemill.toml:29: sinks.h.redis: "h:6379" is not the address of a Redis server; use redis://host:6379 or rediss://host:6379, and password = "name of a secret" if it asks for one
            tidemill.toml:30: sinks.h.stream: the stream has no name; name it, or remove it to use the topic
            tidemill.toml:31: sinks.h.stream_length_max: 0 is out of range; use a whole number from 1 to 1000000000000
            tidemill.toml:34: sinks.i.redis: the address contains a password, which everyone can read; use redis://host:6379 or rediss://host:6379, and password = "name of a secret" if it asks for one
            tidemill.toml:35: sinks.i.subject: a sink with redis has no subject; remove it
            tidemill.toml:38: sinks.j.redis: "redis://h/x" is not the address of a Redis server: Invalid database number - InvalidClientConfig; use redis://host:6379 or rediss://host:6379, and password = "name of a secret" if it asks for one
            tidemill.toml:39: sinks.j.password: there is no secret "none"; add it under [secrets], like name = { env = "VARIABLE" }
            tidemill.toml:43: sinks.k.stream_length_max: a sink with webhook has no stream_length_max; remove it
            tidemill.toml:44: sinks.k.password: a sink with webhook has no password; remove it
            tidemill.toml:45: sinks.l: it has to say exactly once where events go; give one of webhook, table (with datasource), nats and redis"#]],
    );
}

#[test]
fn keys_of_webhooks() {
    let file = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), text).unwrap();
        folder
    };
    let sink = |folder: &tempfile::TempDir| {
        format!(
            "[secrets]\nkey = {{ file = {:?} }}\n[sinks.a]\ntopics = [\"A\"]\nwebhook = \"https://h/\"\nsigned_with = \"key\"\n",
            folder.path().join("key")
        )
    };
    let bad = file("whsec_hush!");
    check(
        &sink(&bad),
        expect![[
            r#"tidemill.toml:6: sinks.a.signed_with: the secret "key" is no key to sign with: it is not base64; make one by `echo whsec_$(openssl rand -base64 32)`"#
        ]],
    );
    let short = file("whsec_aHVzaA==\n");
    check(
        &sink(&short),
        expect![[
            r#"tidemill.toml:6: sinks.a.signed_with: the secret "key" is no key to sign with: it has 4 bytes, a key has 24 to 64; make one by `echo whsec_$(openssl rand -base64 32)`"#
        ]],
    );
    let good = file("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let shown = show::effective(&load(sink(&good).as_bytes(), &[]).unwrap());
    assert!(shown.contains("webhook = \"https://h/\"\nsigned_with = \"key\"\nbatch = 1\n"), "{shown}");
    assert!(!shown.contains("MfKQ9r8"), "{shown}");
}

#[test]
fn brokers_as_they_are_in_effect() {
    let toml = "[secrets]\npw = { env = \"PW\" }\n\
        [sinks.a]\ntopics = [\"A\"]\nnats = \"tls://u@h:4333\"\npassword = \"pw\"\nsubject_prefix = \"x.\"\n\
        [sinks.b]\ntopics = [\"B\"]\nredis = \"rediss://u@h/3\"\npassword = \"pw\"\nstream = \"s\"\nstream_length_max = 9\n";
    let config = load(toml.as_bytes(), &[("PW", "hush")]).unwrap();
    let shown = show::effective(&config);
    let sinks = shown.split_once("[sinks.a]").unwrap().1;
    expect![[r#"

        topics = ["A"]
        nats = "tls://u@h:4333"
        password = "pw"
        subject_prefix = "x."
        tries_max = 10
        timeout = "10s"

        [sinks.b]
        topics = ["B"]
        redis = "rediss://u@h/3"
        password = "pw"
        stream = "s"
        stream_length_max = 9
        tries_max = 10
        timeout = "10s"
    "#]]
    .assert_eq(sinks);
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn addresses_of_brokers_and_webhooks_say_what_counts_and_hide_their_secrets() {
    let sinks = [
        ("nats", "nats://h?token=hunter2", "the address has no parameter \"token\": it has none"),
        ("nats", "nats://h:4222/hunter2", "\"nats://h:4222/...\" contains more than a server and its port"),
        ("nats", "nats://hunter2@", "\"nats://\": NATS server URL is invalid"),
        ("nats", "nats://hunter2@h", "a user and a password belong together"),
        ("nats", "tls://h#hunter2", "contains more than a server and its port"),
        ("nats", "nats://h?hunter2", "a parameter of the address has no value"),
        ("redis", "redis://h?protcol=resp3", "did you mean \"protocol\"?"),
        ("redis", "redis://h?protocol=hunter2", "has another value than 2, 3, resp2, resp3"),
        ("redis", "redis://h/0?password=hunter2", "has no parameter \"password\": known are protocol"),
        ("redis", "redis://hunter2@h", "a user and a password belong together"),
        ("redis", "redis://hunter2@h/x", "\"redis://h/x\" is not the address of a Redis server"),
        ("redis", "rediss://h#hunter2", "\"rediss://h#...\" is not the address of a Redis server"),
        ("webhook", "htps://h/hunter2?x=hunter2", "\"htps://h/...\" is not an address"),
        ("webhook", "h/hunter2", "an address without a scheme"),
        ("webhook", "https:///hunter2", "is not an address that events can be sent to"),
        ("webhook", "https://h/hunter2 hunter2", "\"https://h/...\" is not an address"),
    ];
    for (kind, address, expected) in sinks {
        let sink = format!("[sinks.a]\ntopics = [\"A\"]\n{kind} = \"{address}\"\n");
        let error = load(format!("[jobs.a]\nplugin = \"a\"\n{sink}").as_bytes(), &[]).err().unwrap();
        assert!(error.contains(expected), "{address}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn secrets_of_addresses_are_not_in_the_effective_configuration() {
    let toml = "[secrets]\npw = { env = \"PW\" }\n[store]\nurl = \"postgres://ada:hunter2@db/x\"\n\
        [datasources.shop]\nurl = \"postgres://db/x?user=ada&password=hunter2\"\n\
        [sinks.a]\ntopics = [\"A\"]\nwebhook = \"https://hooks.example/services/hunter2?token=hunter2#hunter2\"\n\
        [sinks.b]\ntopics = [\"B\"]\nwebhook = \"https://hunter2:hunter2@hooks.example\"\n\
        [sinks.c]\ntopics = [\"C\"]\nredis = \"redis://h/3?protocol=resp3\"\n";
    let config = load(toml.as_bytes(), &[("PW", "hunter2")]).unwrap();
    let shown = show::effective(&config);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("webhook = \"https://hooks.example/...\"\n"), "{shown}");
    assert!(shown.contains("redis = \"redis://h/3?protocol=resp3\"\n"), "{shown}");
    assert!(!format!("{config:?}").contains("hunter2"));
}
