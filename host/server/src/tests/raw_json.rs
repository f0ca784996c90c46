//! JSON from clients: the store, the guest and later readers get the original bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use clap::Parser;
use domain::alert::{Alert, Severity};
use domain::id::Incarnation;
use jiff::SignedDuration;
use serde_json::value::RawValue;
use store::items::lease;

use super::world::{World, get, post};
use crate::cli::Cli;

const DOCUMENTS: [&str; 8] = [
    "{\"big\":123456789012345678901234567890}",
    "{\"b\":1.0,\"a\":1e400,\"b\":-0}",
    "[1E5 ,0.10,\t100000000000000000001]",
    "{\r\n  \"z\" : [ ] , \"a\":{ } }",
    "\"\\u00e9\\/\\ud83d\\ude00\\u0000é\"",
    "0.1e-7",
    "[[[[[[[[]]]]]]]]",
    "\"  spaced  \"",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn params_of_a_run_are_stored_byte_for_byte() {
    let world = World::new().await;
    for document in DOCUMENTS {
        let answer = world.ask(post("/api/v1/jobs/wallet", &format!("{{\"params\": {document} }}"))).await;
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.body);
        let now = world.state.clock.now();
        let run = world
            .state
            .store
            .runs()
            .claim(
                world.job(),
                lease(world.host(), Incarnation::new(now), now, SignedDuration::from_secs(15)),
            )
            .await
            .unwrap()
            .unwrap();
        assert_eq!(run.params.as_deref(), Some(document));
    }
    let refused = world.ask(post("/api/v1/jobs/wallet", "{\"params\": {\"a\": 01}}")).await;
    assert_eq!(refused.status.as_u16(), 400, "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_of_batches_are_stored_and_shown_byte_for_byte() {
    let world = World::new().await;
    let item = |document: &&str| format!("{{\"operation\": \"o\", \"payload\":\n{document}\n}}");
    let items: Vec<String> = DOCUMENTS.iter().map(item).collect();
    let body = format!("{{\"id\": \"b\", \"job\": \"wallet\", \"items\": [{}]}}", items.join(","));
    let answer = world.ask(post("/api/v1/batches", &body)).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.body);
    let shown = world.ask(get("/api/v1/batches/b")).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.body).unwrap();
    for (at, document) in DOCUMENTS.into_iter().enumerate() {
        assert_eq!(shown["items"][at]["payload"], document);
    }
}

/// The limit applies to the bytes that were sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_of_a_payload_is_that_of_its_bytes() {
    let world = World::new().await;
    let limit = domain::limits::Limits::DEFAULT.payload_bytes;
    for (spaces, status) in [(limit - 2, 201), (limit - 1, 400)] {
        let params = format!("{{\"params\": [{}]}}", " ".repeat(spaces));
        assert_eq!(world.ask(post("/api/v1/jobs/wallet", &params)).await.status.as_u16(), status);
        let batch = format!(
            "{{\"job\": \"wallet\", \"items\": [{{\"operation\": \"o\", \"payload\": [{}]}}]}}",
            " ".repeat(spaces)
        );
        assert_eq!(world.ask(post("/api/v1/batches", &batch)).await.status.as_u16(), status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_alerts_is_answered_byte_for_byte() {
    let world = World::new().await;
    for (at, document) in DOCUMENTS.into_iter().chain(["", "no JSON"]).enumerate() {
        let alert = Alert {
            kind: format!("K{at}"),
            key: String::new(),
            severity: Severity::Info,
            message: String::new(),
            metadata: document.to_owned(),
        };
        world.state.store.alerts().raise(world.job(), &alert, world.state.clock.now()).await.unwrap();
    }
    let alerts = world.ask(get("/api/v1/alerts")).await.body;
    for document in DOCUMENTS.into_iter().chain(["null", "\"no JSON\""]) {
        assert!(alerts.contains(&format!("\"metadata\":{document},")), "{document}: {alerts}");
    }
    // The output of the command line.
    let read: crate::api::alerts::Alerts = serde_json::from_str(&alerts).unwrap();
    let printed = serde_json::to_string_pretty(&read).unwrap();
    assert!(DOCUMENTS.iter().all(|document| printed.contains(document)), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_keep_their_bytes_or_are_refused() {
    let world = World::new().await;
    let set = |key: &str, value: &str| {
        post("/api/v1/jobs/wallet/edits", &format!("{{\"set\": {{\"{key}\": {value}}}}}"))
    };
    let answer = world.ask(set("retry.factor", "2.50")).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    assert!(answer.body.contains("\"value\":2.50,"), "{}", answer.body);
    for huge in ["123456789012345678901234567890", "18446744073709551615", "1e400"] {
        let refused = world.ask(set("config.big", huge)).await;
        assert_eq!(refused.status.as_u16(), 422, "{huge}: {}", refused.body);
    }
}

/// Refuses each request, and returns the last line of its body.
fn server(requests: usize) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let body = |listener: &TcpListener| {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut bytes).unwrap();
            request.extend_from_slice(&bytes[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                let problem = r#"{"type":"t","title":"t","status":404,"code":"c","detail":"d"}"#;
                let answer =
                    format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{problem}", problem.len());
                stream.write_all(answer.as_bytes()).unwrap();
                return body.to_owned();
            }
        }
    };
    (address, std::thread::spawn(move || (0..requests).map(|_| body(&listener)).collect()))
}

#[test]
fn the_command_line_sends_documents_as_they_were_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("batch.json");
    for document in DOCUMENTS {
        let batch = format!(
            "{{ \"job\":\"wallet\",\n \"items\":[ {{\"operation\":\"o\", \"payload\":{document}}} ] }}\n"
        );
        std::fs::write(&file, &batch).unwrap();
        let (address, sent) = server(3);
        let remote = format!("http://{address}");
        let lines: [&[&str]; 3] = [
            &["jobs", "trigger", "wallet", "--params", document],
            &["jobs", "set", "wallet", "config.x", document],
            &["batches", "add", file.to_str().unwrap()],
        ];
        for line in lines {
            let mut words = vec!["tidemill"];
            words.extend(line);
            words.extend(["--server", &remote]);
            crate::cli::run(Cli::try_parse_from(&words).unwrap());
        }
        let expected =
            [format!("{{\"params\":{document}}}"), format!("{{\"set\":{{\"config.x\":{document}}}}}"), batch];
        assert_eq!(sent.join().unwrap(), expected);
    }
    assert!(RawValue::from_string("{".to_owned()).is_err());
    let bad = ["tidemill", "jobs", "trigger", "wallet", "--params", "{"];
    assert!(Cli::try_parse_from(bad).is_err());
}
