//! The complete state machine, as a table and as the chart in ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::expect;

use crate::item::{Event, ManualDecision, State, next};

/// One row per event and one column per state: the resulting state, or `-` if the event is illegal.
fn table() -> String {
    let mut text = format!("{:<19}", "");
    for state in State::ALL {
        text.push_str(&format!("{:<16}", state.as_str()));
    }
    for event in Event::ALL {
        text = format!("{}\n{:<19}", text.trim_end(), event.as_str());
        for state in State::ALL {
            let after = next(state, event).map_or("-", State::as_str);
            text.push_str(&format!("{after:<16}"));
        }
    }
    format!("{}\n", text.trim_end())
}

/// The same as a chart, without the edges where a discovery finds an item and leaves its state unchanged.
fn chart() -> String {
    let mut edges: BTreeMap<(State, State), Vec<&str>> = BTreeMap::new();
    for state in State::ALL {
        for event in Event::ALL {
            match next(state, event) {
                Ok(same) if same == state && event == Event::Found => {}
                Ok(after) => edges.entry((state, after)).or_default().push(event.as_str()),
                Err(_) => {}
            }
        }
    }
    let mut text = "stateDiagram-v2\n    [*] --> scheduled: found\n".to_owned();
    for ((from, to), events) in edges {
        text.push_str(&format!("    {from} --> {to}: {}\n", events.join(", ")));
    }
    text
}

#[test]
fn every_pair_of_state_and_event() {
    expect![[r#"
                           scheduled       running         awaiting        resolved        manual_required abandoned
        found              scheduled       running         awaiting        scheduled       manual_required abandoned
        found_anew         -               -               -               -               scheduled       -
        absent             resolved        -               resolved        -               -               -
        claimed            running         -               running         -               -               -
        resolved           -               resolved        -               -               -               -
        retry              -               scheduled       -               -               -               -
        await              -               awaiting        -               -               -               -
        give_up            -               manual_required -               -               -               -
        lost               -               scheduled       -               -               -               -
        interrupted        -               scheduled       -               -               -               -
        retried_manually   scheduled       -               scheduled       scheduled       scheduled       scheduled
        resolved_manually  resolved        -               resolved        -               resolved        -
        left_to_a_person   manual_required -               manual_required -               manual_required -
        abandoned_manually abandoned       -               abandoned       -               abandoned       -
    "#]].assert_eq(&table());
}

#[test]
fn the_chart_of_the_same() {
    expect![[r#"
        stateDiagram-v2
            [*] --> scheduled: found
            scheduled --> scheduled: retried_manually
            scheduled --> running: claimed
            scheduled --> resolved: absent, resolved_manually
            scheduled --> manual_required: left_to_a_person
            scheduled --> abandoned: abandoned_manually
            running --> scheduled: retry, lost, interrupted
            running --> awaiting: await
            running --> resolved: resolved
            running --> manual_required: give_up
            awaiting --> scheduled: retried_manually
            awaiting --> running: claimed
            awaiting --> resolved: absent, resolved_manually
            awaiting --> manual_required: left_to_a_person
            awaiting --> abandoned: abandoned_manually
            resolved --> scheduled: found, retried_manually
            manual_required --> scheduled: found_anew, retried_manually
            manual_required --> resolved: resolved_manually
            manual_required --> manual_required: left_to_a_person
            manual_required --> abandoned: abandoned_manually
            abandoned --> scheduled: retried_manually
    "#]]
    .assert_eq(&chart());
}

#[test]
fn the_map_shows_this_chart() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md shows the states");
    let mut parts = text.split("<!-- states -->");
    let block = parts.nth(1).expect("ARCHITECTURE.md has no block between two `<!-- states -->` lines");
    let chart = format!("```mermaid\n{}```", chart());
    assert!(
        block.trim() == chart,
        "the chart in ARCHITECTURE.md is out of date: put this between the two `<!-- states -->` lines:\n{chart}"
    );
}

#[test]
fn refused_transition_names_state_and_event() {
    let refused = next(State::Running, Event::Manual(ManualDecision::Abandon)).unwrap_err();
    assert_eq!(refused.to_string(), "an item that is running cannot be abandoned_manually");
    let refused = next(State::Resolved, Event::Resolved).unwrap_err();
    assert_eq!(refused.to_string(), "an item that is resolved cannot be resolved");
}

#[test]
fn an_end_is_left_only_by_a_person_or_by_being_found_again() {
    for state in State::ALL.into_iter().filter(|state| state.is_end()) {
        for event in Event::ALL {
            let leaves = next(state, event).is_ok_and(|after| after != state);
            let found = [(State::Resolved, Event::Found), (State::ManualRequired, Event::FoundAnew)];
            let may = matches!(event, Event::Manual(_)) || found.contains(&(state, event));
            assert!(may || !leaves, "{state} is left by {}", event.as_str());
        }
    }
}

#[test]
fn only_a_claim_begins_an_attempt_and_only_its_end_ends_it() {
    for (state, event) in State::ALL.into_iter().flat_map(|s| Event::ALL.map(|e| (s, e))) {
        let after = next(state, event);
        let begins = state != State::Running && after == Ok(State::Running);
        assert_eq!(begins, event == Event::Claimed && after.is_ok(), "{state} {}", event.as_str());
        if state == State::Running && matches!(event, Event::Manual(_) | Event::Absent | Event::Claimed) {
            assert!(after.is_err(), "{} takes a running item away from its holder", event.as_str());
        }
    }
}

#[test]
fn states_read_back_as_they_are_written() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    assert_eq!("Running".parse::<State>(), Err("\"Running\" is not a state of an item".to_owned()));
    assert_eq!("".parse::<State>(), Err("\"\" is not a state of an item".to_owned()));
}
