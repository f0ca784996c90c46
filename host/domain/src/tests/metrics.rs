//! Which metrics of a plugin are accepted.

use expect_test::expect;

use crate::effect::{Change, Metric};

#[test]
fn names_and_labels_that_are_refused() {
    let long = "x".repeat(129);
    let nine: Vec<(String, String)> = (0..9).map(|n| (format!("l{n}"), String::new())).collect();
    let label = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let twice = [label("a", "1"), label("a", "2")].concat();
    let cases = [
        ("orders_total", label("state", "any text: ü"), Change::Add(1)),
        ("_a", vec![], Change::Set(-0.5)),
        ("", vec![], Change::Add(1)),
        ("9lives", vec![], Change::Add(1)),
        ("with space", vec![], Change::Add(1)),
        ("with\nline", vec![], Change::Add(1)),
        ("__name__", vec![], Change::Add(1)),
        (&long, vec![], Change::Add(1)),
        ("tidemill_items", vec![], Change::Add(1)),
        ("job_runs_total", vec![], Change::Add(1)),
        ("job_failures_total", vec![], Change::Add(1)),
        ("job_failures", vec![], Change::Add(1)),
        ("tidemill", vec![], Change::Add(1)),
        ("job_stuck_detected_total", vec![], Change::Add(1)),
        ("orders_total", vec![], Change::Set(1.0)),
        ("orders_count", vec![], Change::Set(1.0)),
        ("orders_sum", vec![], Change::Add(1)),
        ("orders_bucket", vec![], Change::Add(1)),
        ("rate", label("le", "1"), Change::Add(1)),
        ("rate", vec![], Change::Set(f64::NAN)),
        ("rate", vec![], Change::Set(f64::INFINITY)),
        ("rate", nine, Change::Add(1)),
        ("rate", twice, Change::Add(1)),
        ("rate", label("job", "another"), Change::Add(1)),
        ("rate", label("a-b", "1"), Change::Add(1)),
        ("rate", label("a", &long), Change::Add(1)),
    ];
    let line = |(name, labels, change): (&str, _, _)| {
        let metric = Metric { name: name.to_owned(), labels, change };
        format!("{}\n", metric.refused().unwrap_or_else(|| "taken".to_owned()))
    };
    let reported: String = cases.into_iter().map(line).collect();
    expect![[r#"
        taken
        taken
        "" is not a metric's name: use letters, digits and _
        "9lives" is not a metric's name: use letters, digits and _
        "with space" is not a metric's name: use letters, digits and _
        "with\nline" is not a metric's name: use letters, digits and _
        "__name__" is not a metric's name: use letters, digits and _
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" is not a metric's name: use letters, digits and _
        "tidemill_items" is kept for the host's own metrics
        "job_runs_total" is kept for the host's own metrics
        "job_failures_total" is kept for the host's own metrics
        "job_failures" is kept for the host's own metrics
        "tidemill" is kept for the host's own metrics
        taken
        "orders_total" is set, but "_total" ends a counter's name
        "orders_count" ends in "_count", which is kept for histograms and summaries
        "orders_sum" ends in "_sum", which is kept for histograms and summaries
        "orders_bucket" ends in "_bucket", which is kept for histograms and summaries
        the label "le" is kept for histograms and summaries
        "rate" is set to a value that is no number
        "rate" is set to a value that is no number
        9 labels, at most 8
        the label "a" is given twice
        the label "job" is set by the host
        "a-b" is not a label's name: use letters, digits and _
        the value of label "a" has more than 128 bytes
    "#]]
    .assert_eq(&reported);
}
