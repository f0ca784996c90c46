//! Metrics of plugins, checked by Prometheus's own tool.

use std::io::Write;
use std::process::{Command, Stdio};

use domain::effect::{Change, Metric};
use domain::runner::Usage;
use expect_test::expect;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::families;
use crate::metrics::{Metrics, call_ended, refused_as_stale, round_done, stuck};

fn metric(name: &str, labels: &[(&str, &str)], change: Change) -> Metric {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Metric { name: name.to_owned(), labels, change }
}

/// The text of `/metrics` after these metrics of two jobs, together with the host's own metrics.
fn rendered(metrics: &[(&str, Metric)]) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        families::describe();
        let (own, host) = ("host".parse().unwrap(), Metrics::default());
        host.run_ended(&own, false);
        call_ended(&own, &Usage { wall_us: 1_500, cpu_us: 7, ..Usage::default() });
        refused_as_stale(&own);
        stuck(&own);
        round_done("scheduler", "2026-11-20T12:00:00Z".parse().unwrap());
        for (job, metric) in metrics {
            // The sandbox refuses these at the call.
            if metric.refused().is_none() {
                host.show(&job.parse().unwrap(), metric);
            }
        }
    });
    handle.render()
}

/// Runs `promtool check metrics` of Debian's package `prometheus`: returns whether it accepts the
/// text, and its output.
fn promtool(text: &str) -> (bool, String) {
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool =
        tool.spawn().expect("this test needs promtool: run `cargo xtask test`, or install prometheus");
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// The metrics of plugins: name and kind, once for each family.
fn families_of(text: &str) -> String {
    let own = ["tidemill_", "job_", "batch_items_"];
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut lines: Vec<&str> =
        lines.filter(|line| !own.iter().any(|prefix| line.starts_with(prefix))).collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

/// Metrics of two jobs: valid ones, conflicts, and some that Prometheus or its tool refuses.
fn reported() -> Vec<(&'static str, Metric)> {
    let (add, set) = (Change::Add(1), Change::Set(2.5));
    vec![
        ("a", metric("orders", &[("state", "new")], add)),
        ("b", metric("orders", &[], set)),
        ("b", metric("orders_total", &[("region", "eu")], add)),
        ("a", metric("orders_total", &[], set)),
        ("a", metric("both", &[], set)),
        ("a", metric("both", &[], add)),
        ("a", metric("twice_total", &[], add)),
        ("b", metric("twice", &[("other", "labels")], add)),
        ("a", metric("text", &[("value", "quotes \" and \\ and ü")], set)),
        ("a", metric("hidden", &[("value", "a line\nbreak and \u{202e}")], set)),
        ("a", metric("empty_label", &[("value", "")], set)),
        ("a", metric("large", &[], Change::Set(f64::MAX))),
        ("a", metric("small", &[], Change::Set(-0.0))),
        ("a", metric("nan", &[], Change::Set(f64::NAN))),
        ("a", metric("infinite", &[], Change::Set(f64::INFINITY))),
        ("a", metric("much_total", &[], Change::Add(u64::MAX))),
        ("a", metric("much_total", &[], Change::Add(u64::MAX))),
        ("a", metric("job_stuck_detected_total", &[], add)),
        ("a", metric("job_stuck_detected_total", &[], set)),
        ("a", metric("job_stuck_detected", &[], add)),
        ("a", metric("batch_items_manual_total", &[], set)),
        ("a", metric("job_duration_seconds", &[], set)),
        ("a", metric("job_duration_seconds_count", &[], add)),
        ("a", metric("tidemill_items", &[], add)),
        ("a", metric("x_count", &[], set)),
        ("a", metric("x_sum", &[], add)),
        ("a", metric("x_bucket", &[], set)),
        ("a", metric("with_le", &[("le", "1")], set)),
        ("a", metric("with_quantile", &[("quantile", "1")], set)),
        ("a", metric("with_job", &[("job", "b")], set)),
        ("a", metric("with_reserved", &[("__name__", "b")], set)),
        ("a", metric("__name__", &[], set)),
        ("a", metric("camelCase", &[], set)),
        ("a", metric("camel", &[("labelName", "x")], set)),
        ("a", metric("UPPER", &[], set)),
        ("a", metric("my_gauge", &[], set)),
        ("a", metric("a_counter_total", &[], add)),
        ("a", metric("queue_age_minutes", &[], set)),
        ("a", metric("queue_age_milliseconds", &[], set)),
        ("a", metric("size_kb", &[], set)),
        ("a", metric("kilobytes", &[], set)),
        ("a", metric("latency_ms_max", &[], set)),
        ("a", metric("queue_age_seconds", &[], set)),
        ("a", metric("_", &[], set)),
        ("a", metric("a__b_", &[], set)),
        ("a", metric("with:colon", &[], set)),
    ]
}

#[test]
fn promtool_accepts_whatever_plugins_report() {
    let metrics = reported();
    let text = rendered(&metrics);
    let (accepted, said) = promtool(&text);
    assert!(accepted, "{said}\n{text}");
    expect![[r#"
        UPPER gauge
        _ gauge
        both gauge
        both_total counter
        empty_label gauge
        large gauge
        much_total counter
        orders gauge
        orders_total counter
        queue_age_seconds gauge
        small gauge
        text gauge
        twice_total counter
    "#]]
    .assert_eq(&families_of(&text));
    let dropped = text.lines().filter(|line| line.starts_with("tidemill_metrics_dropped_total{"));
    expect![[r#"tidemill_metrics_dropped_total{job="a",reason="name"} 10"#]]
        .assert_eq(&dropped.collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_metric_of_the_host_has_its_help() {
    let text = rendered(&[]);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help text");
    }
}
