//! When a canary is promoted or rolled back, and which items it gets.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::id::Digest;
use crate::plugin::{Asks, Statement};
use crate::release::{Canary, CanaryDecision, TrialResults, decide_canary, goes_to_canary};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn tried(attempts: u64, failed: u64, cpu_ms_each: u64) -> TrialResults {
    TrialResults { attempts, failed, cpu_us: attempts * cpu_ms_each * 1_000 }
}

fn verdict(before: TrialResults, new: TrialResults, lasted: SignedDuration) -> &'static str {
    match decide_canary(&Canary::DEFAULT, &before, &new, lasted) {
        CanaryDecision::GoOn => "goes on",
        CanaryDecision::Promote => "promoted",
        CanaryDecision::RollBack(why) if why.starts_with("it fails") => "fails",
        CanaryDecision::RollBack(why) if why.starts_with("it costs") => "costs",
        CanaryDecision::RollBack(why) => panic!("{why}"),
    }
}

#[test]
fn failing_version_is_rolled_back_once_the_difference_is_significant() {
    let good = tried(100, 0, 1);
    let ends = [1, 2, 3, 4].map(|failed| verdict(good, tried(failed, failed, 1), MINUTE));
    assert_eq!(ends, ["goes on", "goes on", "fails", "fails"]);
    let ends = [1, 2, 3, 4].map(|failed| verdict(good, tried(20, failed, 1), MINUTE));
    assert_eq!(ends, ["goes on", "goes on", "goes on", "fails"]);
    let ends = [10, 11].map(|failed| verdict(good, tried(90, failed, 1), MINUTE));
    assert_eq!(ends, ["goes on", "fails"]);
    // A version that fails as often as the one before is not worse.
    assert_eq!(verdict(tried(100, 50, 1), tried(20, 11, 1), MINUTE), "goes on");
}

#[test]
fn slower_version_is_rolled_back_after_enough_measurements() {
    let before = tried(100, 0, 10);
    assert_eq!(verdict(before, tried(19, 0, 23), MINUTE), "goes on");
    assert_eq!(verdict(before, tried(20, 0, 22), MINUTE), "goes on");
    assert_eq!(verdict(before, tried(20, 0, 23), MINUTE), "costs");
    assert_eq!(verdict(tried(19, 0, 10), tried(100, 0, 23), MINUTE), "goes on");
    // A busy machine can add 2 ms to an attempt.
    let short = tried(100, 0, 0);
    assert_eq!(verdict(short, tried(20, 0, 2), MINUTE), "goes on");
    assert_eq!(verdict(short, tried(20, 0, 3), MINUTE), "costs");
}

#[test]
fn successful_version_is_promoted() {
    let before = tried(1_000, 10, 1);
    assert_eq!(verdict(before, tried(199, 0, 1), MINUTE), "goes on");
    assert_eq!(verdict(before, tried(200, 0, 1), MINUTE), "promoted");
    assert_eq!(verdict(before, tried(201, 1, 1), MINUTE), "promoted");
    let over = Canary::DEFAULT.promote_after;
    assert_eq!(verdict(before, tried(0, 0, 0), over), "promoted");
    assert_eq!(verdict(before, tried(30, 1, 1), over), "promoted");
    // A higher failure rate that may be chance is tolerated until the time is over.
    let doubtful = tried(220, 18, 1);
    assert_eq!(verdict(before, doubtful, MINUTE), "goes on");
    assert_eq!(verdict(before, doubtful, over), "fails");
}

#[test]
fn an_item_stays_with_its_version_and_the_share_is_kept() {
    let (a, b) = (Digest([1; 32]), Digest([2; 32]));
    let job = "wallets".parse().unwrap();
    let keys: Vec<String> = (0..10_000).map(|n| format!("user-{n}")).collect();
    let of = |version, share| {
        keys.iter().filter(|key| goes_to_canary(version, share, &job, key)).collect::<Vec<_>>()
    };
    assert_eq!((of(a, 0.0).len(), of(a, 1.0).len()), (0, 10_000));
    let tenth = of(a, 0.1);
    assert!((900..1_100).contains(&tenth.len()), "{}", tenth.len());
    assert_eq!(tenth, of(a, 0.1));
    // A larger share includes the smaller one, and another version gets other items.
    let fifth = of(a, 0.2);
    assert!(tenth.iter().all(|key| fifth.contains(key)));
    let both = of(b, 0.1).iter().filter(|key| tenth.contains(key)).count();
    assert!(both < 200, "{both}");
}

#[test]
fn additional_requests_of_a_version_are_listed() {
    let statement = |sql: &str, writes| Statement {
        datasource: "ledger".to_owned(),
        sql: sql.to_owned(),
        writes,
        params: None,
    };
    let before = Asks {
        imports: vec!["wasi:clocks/wall-clock@0.2.6".to_owned()],
        statements: BTreeMap::from([
            ("find".to_owned(), statement("SELECT 1", false)),
            ("same".to_owned(), statement("SELECT 2", false)),
        ]),
        topics: vec!["paid".to_owned()],
        ..Asks::default()
    };
    let after = Asks {
        imports: vec!["wasi:clocks/wall-clock@0.2.12".to_owned(), "tidemill:job/sql@0.1.0".to_owned()],
        statements: BTreeMap::from([
            ("find".to_owned(), statement("DELETE\n  FROM account", true)),
            ("same".to_owned(), statement("SELECT 2", false)),
        ]),
        topics: vec!["paid".to_owned(), "refunded".to_owned()],
        capabilities: vec!["alerts".to_owned()],
        config: None,
    };
    let expected = [
        "import tidemill:job/sql@0.1.0",
        r#"statement "find" writes to "ledger": DELETE FROM account"#,
        r#"topic "refunded""#,
        r#"capability "alerts""#,
    ];
    assert_eq!(after.beyond(&before), expected);
    assert_eq!(before.beyond(&after), [r#"statement "find" reads "ledger": SELECT 1"#]);
    assert!(after.beyond(&after).is_empty());
}
