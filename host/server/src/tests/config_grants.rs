//! Secrets, signatures and grants.

use std::time::Duration;

use expect_test::expect;
use sandbox::Compiler;

use super::config::{check, load};
use crate::config::show;

#[test]
fn secrets_are_referenced_by_name() {
    check(
        concat!(
            "[secrets]\ninline = \"s3cret\"\nboth = { env = \"A\", file = \"b\" }\nunset = { env = \"NOT_SET\" }\n",
            "gone = { file = \"no/file\" }\n",
            "[store]\npassword = \"x\"\n",
            "[jobs.a]\nplugin = \"a\"\ngrants.http = [\"https://a.example\"]\n",
            "[jobs.a.grants.secrets]\nother = { to = \"https://a.example\" }\n",
            "unset = { to = \"https://b.example\", header = \"host\", as = \"Bearer\" }\n",
        ),
        expect![[r#"
            tidemill.toml:2: secrets.inline: expected a table, found text; use a section [secrets.inline]
            tidemill.toml:3: secrets.both: it has to say exactly once where the secret is; say where it is: { env = "VARIABLE" } or { file = "path" }
            tidemill.toml:4: secrets.unset.env: the variable NOT_SET is not set; set it for the process, to the secret's text
            tidemill.toml:5: secrets.gone.file: no/file cannot be read: No such file or directory (os error 2); name a file that holds the secret and nothing else
            tidemill.toml:7: store.password: an SQLite file has no password; remove it
            tidemill.toml:12: jobs.a.grants.secrets.other: there is no secret "other"; use one of: gone, unset
            tidemill.toml:13: jobs.a.grants.secrets.unset.as: "Bearer" has no {} for the secret; write it like "Bearer {}"
            tidemill.toml:13: jobs.a.grants.secrets.unset.header: "host" is not a header for a secret; use "authorization", or what the service asks for, like "x-api-key"
            tidemill.toml:13: jobs.a.grants.secrets.unset.to: https://b.example is not granted to the job; add it to grants.http"#]],
    );
    let toml = concat!(
        "[secrets]\ntoken = { env = \"TOKEN\" }\nbreaks = { env = \"BREAKS\" }\n",
        "[datasources.shop]\nurl = \"postgres://shop@db.example/shop\"\npassword = \"token\"\n",
        "[jobs.a]\nplugin = \"a\"\n[jobs.a.grants]\nhttp = [\"GET https://a.example\"]\n",
        "secrets.token = { to = \"https://a.example\", header = \"X-Api-Key\" }\n",
    );
    let variables = [("TOKEN", "canary-1\n"), ("BREAKS", "a\nb")];
    let config = load(toml.as_bytes(), &variables).unwrap();
    let [header] = config.jobs[0].grants.secrets.as_slice() else { panic!() };
    assert_eq!((header.header.as_str(), header.value().reveal()), ("x-api-key", "canary-1"));
    let password = config.store.datasources["shop"].password.as_ref().unwrap();
    assert_eq!(password.reveal(), "canary-1");
    let shown = format!("{}{config:?}", show::effective(&config));
    assert!(shown.contains("token = { env = \"TOKEN\" }") && !shown.contains("canary-1"), "{shown}");

    let breaks = toml.replace("secrets.token", "secrets.breaks");
    let reported = load(breaks.as_bytes(), &variables).unwrap_err();
    assert!(reported.contains("the secret holds what no header can, like a line break"), "{reported}");
}

#[test]
fn signatures() {
    check(
        "[plugins]\nsignatures = \"required\"\nkeys = [\"RW\"]\n[jobs.a]\nplugin = \"a\"\n",
        expect![[r#"
        tidemill.toml:2: plugins.signatures: there is no key to verify signatures with; add keys = ["RW…"], from minisign.pub
        tidemill.toml:3: plugins.keys: "RW" is no public key of minisign's: Invalid encoding in minisign data; copy the second line of minisign.pub"#]],
    );
    check(
        "[plugins]\nsignatures = \"yes\"\n[jobs.a]\nplugin = \"a\"\n",
        expect![[
            r#"tidemill.toml:2: plugins.signatures: "yes" is not known; use "off" or "warn" or "required""#
        ]],
    );
}

#[test]
fn releases() {
    check(
        concat!(
            "[plugins]\napproval = \"all\"\nshared = \"yes\"\n[plugins.canary]\nshare = 10\npromote_attempts = 0\n",
            "promote_after = \"0s\"\nfailures_margin = -0.1\ncost = 2\n[jobs.a]\nplugin = \"a\"\n",
        ),
        expect![[r#"
            tidemill.toml:2: plugins.approval: "all" is not known; use "off" or "wider"
            tidemill.toml:3: plugins.shared: expected true or false, found text; use true or false, without quotes
            tidemill.toml:5: plugins.canary.share: 10 is out of range; use a number from 0.001 to 1
            tidemill.toml:6: plugins.canary.promote_attempts: 0 is out of range; use a whole number from 1 to 1000000000
            tidemill.toml:7: plugins.canary.promote_after: a version needs time to prove itself; use "15m" or so
            tidemill.toml:8: plugins.canary.failures_margin: -0.1 is out of range; use a number from 0 to 1
            tidemill.toml:9: plugins.canary.cost: there is no such key; remove it; known here: share, promote_attempts, promote_after, failures_margin, cost_margin, attempts_min"#]],
    );
    let toml = "[plugins]\napproval = \"wider\"\ncanary = { share = 0.25, promote_after = \"1h\" }\n[jobs.a]\nplugin = \"a\"\n";
    let shown = show::effective(&load(toml.as_bytes(), &[]).unwrap());
    expect![[r#"

        share = 0.25
        promote_attempts = 200
        promote_after = "1h"
        failures_margin = 0.05
        cost_margin = 1
        attempts_min = 20

    "#]]
    .assert_eq(shown.split_once("[plugins.canary]").unwrap().1.split_once("[log]").unwrap().0);
}

#[test]
fn grants_of_locks_and_methods() {
    check(
        concat!(
            "[jobs.a]\nplugin = \"a\"\n[jobs.a.grants]\nlocks = [\"ok\", \"a*b\", \"\"]\n",
            "http = [\"FETCH https://a.example\", \"GET https://b.example\", \"POST https://b.example\"]\n",
        ),
        expect![[r#"
            tidemill.toml:4: jobs.a.grants.locks: "" is not a lock's name: it has 0 bytes, 1 to 128 are allowed; use a name like "ledger", or the beginning of names with a * like "wallet:*"
            tidemill.toml:4: jobs.a.grants.locks: "a*b" is not a lock's name: '*' is not allowed in it; use a name like "ledger", or the beginning of names with a * like "wallet:*"
            tidemill.toml:5: jobs.a.grants.http: "FETCH https://a.example" is not an address for requests: its methods are not among GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, with commas between; give scheme, host and port, like "https://stock.example.com" or "http://10.0.0.5:9000"
            tidemill.toml:5: jobs.a.grants.http: "POST https://b.example" is granted twice; name each place once, with all its methods"#]],
    );
}

#[test]
fn limits_of_loading_a_file_are_read() {
    check(
        concat!(
            "[plugins]\ncomponent_size = \"257MiB\"\ncompile_time = \"10m 1s\"\ncompile_memory = \"512KiB\"\n",
            "describe_time = \"500ms\"\ncompile_tim = \"1s\"\n[jobs.a]\nplugin = \"a\"\n",
        ),
        expect![[r#"
            tidemill.toml:2: plugins.component_size: 257MiB is out of range; use a size from "1MiB" to "256MiB"
            tidemill.toml:3: plugins.compile_time: 10m 1s is out of range; use a duration from "1s" to "600s"
            tidemill.toml:4: plugins.compile_memory: 512KiB is out of range; use a size from "1MiB" to "16GiB"
            tidemill.toml:5: plugins.describe_time: 500ms is out of range; use a duration from "1s" to "60s"
            tidemill.toml:6: plugins.compile_tim: there is no such key; did you mean "compile_time"?"#]],
    );
    let toml = "[plugins]\ncomponent_size = \"64MiB\"\ncompile_time = \"2m\"\ncompile_memory = \"2GiB\"\n\
        describe_time = \"3s\"\n[jobs.a]\nplugin = \"a\"\n";
    let config = load(toml.as_bytes(), &[]).unwrap();
    let limits = config.plugins.load;
    assert_eq!((limits.component_size, limits.describe_time), (64 << 20, Duration::from_secs(3)));
    let Compiler::Child(child) = &config.compiler else { panic!("{:?}", config.compiler) };
    assert_eq!((child.bounds.time, child.bounds.address_space_bytes), (Duration::from_secs(120), 2 << 30));
    let shown = show::effective(&config);
    let again = load(shown.as_bytes(), &[]).unwrap();
    assert_eq!(again.plugins.load, limits, "what is shown can be read again");
}
