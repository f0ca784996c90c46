//! Compares the records of submitted batches with the hosts' state and with the compensations that were made.

use std::collections::BTreeMap;

use super::checker::Check;
use super::town::Town;

const HANDED_IN: &str = "SELECT record_key || ' ' || kind || ' ' || (
        (SELECT COUNT(*) FROM compensation c WHERE c.record_key = h.record_key)
        + (SELECT COUNT(*) FROM ledger_outbox p WHERE p.posting_key = 'compensation-' || h.record_key))
    FROM handed_in h";
const STATES: &str = "SELECT item_key || ' ' || state || ' ' || COALESCE(error_code, '-') FROM item
    WHERE job = 'batch-compensation'";

/// A record that can be compensated is compensated once, or is left for a person with the reason and without
/// a compensation. Any other record is left for a person with its reason, and has no compensation.
pub async fn check(town: &Town) -> Check {
    let states = town.databases.store_texts(STATES).await;
    let states: BTreeMap<&str, (&str, &str)> = states
        .iter()
        .map(|row| row.split(' ').collect::<Vec<_>>())
        .map(|words| (words[0], (words[1], words[2])))
        .collect();
    let handed_in = town.databases.business_texts(HANDED_IN).await;
    let (mut wrong, mut reasons) = (Vec::new(), BTreeMap::<String, u32>::new());
    for row in &handed_in {
        let words: Vec<&str> = row.split(' ').collect();
        let (kind, done) = (words[1], words[2]);
        let Some((state, code)) = states.get(words[0]).copied() else {
            wrong.push(format!("{row}: the hosts do not know it"));
            continue;
        };
        *reasons.entry(format!("{kind} {state} {code}")).or_default() += 1;
        let good = match (kind, state) {
            ("stock-return" | "ledger-credit", "resolved") => done == "1",
            ("stock-return" | "ledger-credit", "manual_required") => code != "-" && done == "0",
            ("nowhere", "manual_required") => code != "-" && done == "0",
            ("unknown", "manual_required") => code == "unknown-operation" && done == "0",
            _ => false,
        };
        if !good {
            wrong.push(format!("{row}, {state} {code}"));
        }
    }
    eprintln!("records: {reasons:?}");
    let known = states.len().saturating_sub(handed_in.len());
    wrong.extend((known > 0).then(|| format!("{known} that were not handed in")));
    Check::new(
        "each record was made up for once, or waits for a person with its reason",
        handed_in.len(),
        wrong,
    )
}
