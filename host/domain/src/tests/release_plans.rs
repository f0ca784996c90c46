//! Which version of a plugin a host activates, as a table: facts, and the steps that follow from them.

use std::fmt::Write;

use expect_test::{Expect, expect};

use crate::id::Digest;
use crate::release::plan::{Change, Facts, LastScan, Load, Step, plan};
use crate::release::{Arrival, Candidate, Decision, Release, Stage};

use super::at;

fn version(n: u8) -> Digest {
    Digest([n; 32])
}

/// A release state without a version: the plugin was taken out of use.
fn disabled() -> Release {
    Release {
        plugin: "wallets".parse().unwrap(),
        stable: None,
        since: at("2026-11-20T12:00:00Z"),
        cause: String::new(),
        candidate: None,
        uploaded: false,
    }
}

fn stable(n: u8) -> Release {
    Release { stable: Some(version(n)), ..disabled() }
}

fn with_candidate(n: u8, stage: Stage) -> Release {
    let (since, wants) = (at("2026-11-20T12:00:00Z"), Vec::new());
    Release { candidate: Some(Candidate { digest: version(n), stage, since, wants }), ..stable(1) }
}

fn uploaded(release: Release) -> Release {
    Release { uploaded: true, ..release }
}

/// A host on which nothing of the plugin is known yet.
fn empty() -> Facts<'static> {
    Facts::default()
}

/// A host that found this version in its folder. The last scan found version 1 there.
fn file<'a>(n: u8) -> Facts<'a> {
    let last = Some(LastScan { file: Some(version(1)), ..LastScan::default() });
    Facts { in_folder: true, file: Some(Load::Done(version(n))), last, ..empty() }
}

fn unreadable<'a>() -> Facts<'a> {
    Facts { file: Some(Load::Unavailable("it cannot be read".to_owned())), ..file(1) }
}

fn compiling<'a>() -> Facts<'a> {
    Facts { file: Some(Load::InProgress), ..file(1) }
}

/// A host without a file of the plugin. The last scan found none, either.
fn absent<'a>() -> Facts<'a> {
    Facts { last: Some(LastScan::default()), ..empty() }
}

/// A host whose file, of version 1, was removed since the last scan.
fn removed<'a>() -> Facts<'a> {
    Facts { in_folder: false, file: None, ..file(1) }
}

impl<'a> Facts<'a> {
    fn release(self, release: &'a Release) -> Facts<'a> {
        Facts { release: Some(release), ..self }
    }

    fn pinned(self, n: u8) -> Facts<'a> {
        Facts { pin: Some(version(n)), ..self }
    }

    fn shared(self) -> Facts<'a> {
        Facts { shared: true, ..self }
    }

    fn on_trial(self) -> Facts<'a> {
        Facts { on_trial: true, ..self }
    }

    fn last(self, last: Option<LastScan>) -> Facts<'a> {
        Facts { last, ..self }
    }

    fn kept(mut self, n: u8, load: Load) -> Facts<'a> {
        self.kept.insert(version(n), load);
        self
    }

    fn refused(mut self, n: u8) -> Facts<'a> {
        self.checks.insert(version(n), Err("no grant".to_owned()));
        self
    }

    fn decided(self, decision: Decision) -> Facts<'a> {
        Facts { decision: Some(Ok(decision)), ..self }
    }
}

/// Follows the plan as a host does: a step whose result is unknown is carried out, and the plan continues. Versions
/// without a result are kept, usable and become stable.
fn followed(all: &Facts<'_>) -> Vec<Step> {
    let unknown = Facts { file: None, kept: [].into(), checks: [].into(), decision: None, ..all.clone() };
    let (mut facts, mut steps) = (unknown, Vec::new());
    loop {
        let longer = plan(&facts);
        assert!(longer.starts_with(&steps), "{longer:?} changes {steps:?}");
        if longer.len() == steps.len() {
            return steps;
        }
        steps = longer;
        match steps.last().unwrap() {
            Step::LoadFile => facts.file.clone_from(&all.file),
            Step::LoadKept(digest) => {
                let load = all.kept.get(digest).cloned().unwrap_or(Load::Done(*digest));
                facts.kept.insert(*digest, load);
            }
            Step::Check(digest) => {
                facts.checks.insert(*digest, all.checks.get(digest).cloned().unwrap_or(Ok(())));
            }
            Step::Propose(..) => facts.decision = Some(all.decision.clone().unwrap_or(Ok(Decision::Stable))),
            _ => {}
        }
    }
}

fn word(step: &Step) -> String {
    let n = |digest: &Digest| digest.0[0];
    match step {
        Step::LoadFile => "load file".to_owned(),
        Step::LoadKept(digest) => format!("load kept {}", n(digest)),
        Step::Check(digest) => format!("check {}", n(digest)),
        Step::Propose(digest, Arrival::AtStart) => format!("propose {} at start", n(digest)),
        Step::Propose(digest, Arrival::Fresh) => format!("propose {} fresh", n(digest)),
        Step::Propose(digest, Arrival::Old) => format!("propose {} old", n(digest)),
        Step::Apply(change) => match change {
            Change::Activate(digest) => format!("ACTIVATE {}", n(digest)),
            Change::PutOnTrial(digest, _) => format!("PUT {} ON TRIAL", n(digest)),
            Change::EndTrial => "END TRIAL".to_owned(),
            Change::AwaitLoad => "AWAIT LOAD".to_owned(),
            Change::AwaitApproval(digest) => format!("AWAIT APPROVAL of {}", n(digest)),
            Change::Ignore(digest) => format!("IGNORE {}", n(digest)),
            Change::Reject(digest, reason) => format!("REJECT {} ({reason})", n(digest)),
            Change::Block(reason) => format!("BLOCK ({reason})"),
            Change::Disable => "DISABLE".to_owned(),
            Change::Retire => "RETIRE".to_owned(),
        },
    }
}

fn check(rows: &[(&str, Facts<'_>)], expected: &Expect) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut table = String::new();
    for (name, facts) in rows {
        let steps = followed(facts).iter().map(word).collect::<Vec<_>>().join(", ");
        writeln!(table, "{name:<width$} | {steps}").unwrap();
    }
    expected.assert_eq(&table);
}

#[test]
fn file_of_one_host() {
    let (one, none) = (stable(1), disabled());
    let rows = [
        ("first file at the start", file(1).last(None)),
        ("first file later", file(1).last(Some(LastScan::default()))),
        ("stable version", file(1).release(&one)),
        ("stable version, refused", file(1).release(&one).refused(1)),
        ("new version", file(2).release(&one)),
        ("new version, refused", file(2).release(&one).refused(2)),
        ("new version, stable one refused", file(2).release(&one).refused(1)),
        ("new version, stable one compiling", file(2).release(&one).kept(1, Load::InProgress)),
        (
            "new version, stable one not kept",
            file(2).release(&one).kept(1, Load::Unavailable("not kept".to_owned())),
        ),
        ("compiling", compiling().release(&one)),
        ("compiling at the start", compiling().release(&one).last(None)),
        ("unreadable", unreadable().release(&one)),
        ("unreadable, nothing decided", unreadable()),
        ("removed", removed().release(&one)),
        ("removed, nothing decided", removed()),
        ("taken out of use, version was replaced", file(1).release(&none).decided(Decision::Replaced)),
        ("taken out of use, new version", file(2).release(&none)),
        ("taken out of use, no file", absent().release(&none)),
    ];
    check(
        &rows,
        &expect![[r#"
        first file at the start                | load file, check 1, propose 1 at start, ACTIVATE 1
        first file later                       | load file, check 1, propose 1 fresh, ACTIVATE 1
        stable version                         | load file, check 1, ACTIVATE 1
        stable version, refused                | load file, check 1, REJECT 1 (no grant)
        new version                            | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, ACTIVATE 2
        new version, refused                   | load file, load kept 1, check 1, ACTIVATE 1, check 2, REJECT 2 (no grant)
        new version, stable one refused        | load file, load kept 1, check 1, REJECT 1 (no grant), check 2, propose 2 fresh, ACTIVATE 2
        new version, stable one compiling      | load file, load kept 1, AWAIT LOAD, check 2, propose 2 fresh, ACTIVATE 2
        new version, stable one not kept       | load file, load kept 1, BLOCK (not kept)
        compiling                              | load file, AWAIT LOAD
        compiling at the start                 | load file, AWAIT LOAD
        unreadable                             | load file, load kept 1, check 1, ACTIVATE 1, BLOCK (it cannot be read)
        unreadable, nothing decided            | load file, BLOCK (it cannot be read)
        removed                                | RETIRE
        removed, nothing decided               | RETIRE
        taken out of use, version was replaced | DISABLE, load file, check 1, propose 1 old, IGNORE 1
        taken out of use, new version          | DISABLE, load file, check 2, propose 2 fresh, ACTIVATE 2
        taken out of use, no file              | DISABLE, RETIRE
    "#]],
    );
}

#[test]
fn decisions_about_new_versions() {
    let one = stable(1);
    let new = || file(2).release(&one);
    let rows = [
        ("stable", new().decided(Decision::Stable)),
        ("canary", new().decided(Decision::On(Stage::Canary))),
        ("waits for approval", new().decided(Decision::On(Stage::Waiting))),
        ("replaced before", new().decided(Decision::Replaced)),
        ("in quarantine", new().decided(Decision::Quarantined("it fails".to_owned()))),
        ("store unavailable", Facts { decision: Some(Err("no store".to_owned())), ..new() }),
    ];
    check(
        &rows,
        &expect![[r#"
        stable             | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, ACTIVATE 2
        canary             | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, PUT 2 ON TRIAL
        waits for approval | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, AWAIT APPROVAL of 2
        replaced before    | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, IGNORE 2
        in quarantine      | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, REJECT 2 (it fails)
        store unavailable  | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, BLOCK (no store)
    "#]],
    );
}

#[test]
fn arrivals_of_new_versions() {
    let one = stable(1);
    let new = || file(2).release(&one);
    let last = |file, pinned| Some(LastScan { file, pinned, removed: None });
    let rows = [
        ("first scan", new().last(None)),
        ("no file at the last scan", new().last(last(None, false))),
        ("another file at the last scan", new().last(last(Some(version(1)), false))),
        ("the same file at the last scan", new().last(last(Some(version(2)), false))),
        ("pinned at the last scan", new().last(last(None, true))),
    ];
    check(
        &rows,
        &expect![[r#"
        first scan                     | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 at start, ACTIVATE 2
        no file at the last scan       | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, ACTIVATE 2
        another file at the last scan  | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, ACTIVATE 2
        the same file at the last scan | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 old, ACTIVATE 2
        pinned at the last scan        | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 at start, ACTIVATE 2
    "#]],
    );
}

#[test]
fn trials() {
    let (canary, waiting) = (with_candidate(2, Stage::Canary), with_candidate(2, Stage::Waiting));
    let (one, upload) = (stable(1), uploaded(with_candidate(2, Stage::Canary)));
    let on_trial = || Decision::On(Stage::Canary);
    let rows = [
        ("candidate in the folder", file(2).release(&canary).on_trial().decided(on_trial())),
        ("stable version in the folder", file(1).release(&canary)),
        ("candidate refused", file(1).release(&canary).on_trial().refused(2)),
        ("candidate compiling", file(1).release(&canary).kept(2, Load::InProgress)),
        (
            "candidate not kept",
            file(1).release(&canary).on_trial().kept(2, Load::Unavailable("not kept".to_owned())),
        ),
        ("another file, on trial instead", file(3).release(&canary).on_trial().decided(on_trial())),
        ("another file, waiting", file(3).release(&canary).on_trial().decided(Decision::On(Stage::Waiting))),
        ("unreadable", unreadable().release(&canary).on_trial()),
        ("candidate waits for approval", file(1).release(&waiting)),
        ("trial ended", file(1).release(&one).on_trial()),
        ("file removed on one host", removed().release(&canary).on_trial()),
        ("no file, several hosts", absent().shared().release(&canary)),
        ("no file, uploaded", absent().release(&upload)),
        ("pinned", file(2).release(&canary).on_trial().pinned(1)),
    ];
    check(
        &rows,
        &expect![[r#"
        candidate in the folder        | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, PUT 2 ON TRIAL
        stable version in the folder   | load file, check 1, ACTIVATE 1, load kept 2, check 2, PUT 2 ON TRIAL
        candidate refused              | load file, check 1, ACTIVATE 1, load kept 2, check 2, REJECT 2 (no grant), END TRIAL
        candidate compiling            | load file, check 1, ACTIVATE 1, load kept 2, AWAIT LOAD
        candidate not kept             | load file, check 1, ACTIVATE 1, load kept 2, BLOCK (not kept)
        another file, on trial instead | load file, load kept 1, check 1, ACTIVATE 1, check 3, propose 3 fresh, PUT 3 ON TRIAL
        another file, waiting          | load file, load kept 1, check 1, ACTIVATE 1, check 3, propose 3 fresh, AWAIT APPROVAL of 3, load kept 2, check 2, PUT 2 ON TRIAL
        unreadable                     | load file, load kept 1, check 1, ACTIVATE 1, load kept 2, check 2, PUT 2 ON TRIAL, BLOCK (it cannot be read)
        candidate waits for approval   | load file, check 1, ACTIVATE 1
        trial ended                    | load file, check 1, ACTIVATE 1, END TRIAL
        file removed on one host       | END TRIAL, RETIRE
        no file, several hosts         | load kept 1, check 1, ACTIVATE 1, load kept 2, check 2, PUT 2 ON TRIAL
        no file, uploaded              | load kept 1, check 1, ACTIVATE 1, load kept 2, check 2, PUT 2 ON TRIAL
        pinned                         | load kept 1, check 1, ACTIVATE 1, END TRIAL
    "#]],
    );
}

#[test]
fn pins_and_uploads() {
    let (one, none, upload) = (stable(1), disabled(), uploaded(stable(1)));
    let rows = [
        ("pinned, another file", file(2).release(&one).pinned(1)),
        ("pinned, unreadable file", unreadable().release(&one).pinned(2)),
        ("pinned, no file", absent().pinned(1)),
        ("pinned, file removed", removed().shared().release(&one).pinned(1)),
        ("pinned, taken out of use", file(1).release(&none).pinned(2)),
        ("pinned, refused", file(2).release(&one).pinned(1).refused(1)),
        ("pinned, not kept", file(2).pinned(1).kept(1, Load::Unavailable("not kept".to_owned()))),
        ("uploaded, another file", file(2).release(&upload).decided(Decision::Replaced)),
        ("uploaded, no file", absent().release(&upload)),
        ("uploaded, file removed", removed().release(&upload)),
        ("uploaded, file compiling", compiling().release(&upload)),
    ];
    check(
        &rows,
        &expect![[r#"
        pinned, another file     | load kept 1, check 1, ACTIVATE 1
        pinned, unreadable file  | load kept 2, check 2, ACTIVATE 2
        pinned, no file          | load kept 1, check 1, ACTIVATE 1
        pinned, file removed     | load kept 1, check 1, ACTIVATE 1
        pinned, taken out of use | load kept 2, check 2, ACTIVATE 2
        pinned, refused          | load kept 1, check 1, REJECT 1 (no grant)
        pinned, not kept         | load kept 1, BLOCK (not kept)
        uploaded, another file   | load file, load kept 1, check 1, ACTIVATE 1, check 2, propose 2 fresh, IGNORE 2
        uploaded, no file        | load kept 1, check 1, ACTIVATE 1
        uploaded, file removed   | load kept 1, check 1, ACTIVATE 1
        uploaded, file compiling | load file, AWAIT LOAD, load kept 1, check 1, ACTIVATE 1
    "#]],
    );
}

#[test]
fn several_hosts() {
    let (one, two) = (stable(1), stable(2));
    let host = |facts: Facts<'static>| facts.shared();
    let gone = |n| Some(LastScan { removed: Some(version(n)), ..LastScan::default() });
    let rows = [
        ("no file", host(absent()).release(&one)),
        ("no file at the start", host(empty()).release(&one)),
        ("no file, nothing decided", host(absent())),
        ("old file", host(file(1)).release(&two).decided(Decision::Replaced)),
        ("compiling", host(compiling()).release(&two)),
        ("unreadable", host(unreadable()).release(&two)),
        ("file removed", host(removed()).release(&one)),
        ("file removed before", host(absent()).release(&one).last(gone(1))),
        ("file removed before, then a new version", host(absent()).release(&two).last(gone(1))),
        ("file removed, restart", host(absent()).release(&one).last(None)),
    ];
    check(
        &rows,
        &expect![[r#"
        no file                                 | load kept 1, check 1, ACTIVATE 1
        no file at the start                    | load kept 1, check 1, ACTIVATE 1
        no file, nothing decided                | RETIRE
        old file                                | load file, load kept 2, check 2, ACTIVATE 2, check 1, propose 1 old, IGNORE 1
        compiling                               | load file, AWAIT LOAD, load kept 2, check 2, ACTIVATE 2
        unreadable                              | load file, load kept 2, check 2, ACTIVATE 2, BLOCK (it cannot be read)
        file removed                            | RETIRE
        file removed before                     | RETIRE
        file removed before, then a new version | load kept 2, check 2, ACTIVATE 2
        file removed, restart                   | load kept 1, check 1, ACTIVATE 1
    "#]],
    );
}

#[test]
fn the_next_scan_remembers() {
    let one = stable(1);
    let was_pinned = Some(LastScan { pinned: true, ..LastScan::default() });
    let rows = [
        ("file", file(2)),
        ("refused file", file(2).refused(2)),
        ("compiling: the file before", compiling()),
        ("unreadable: the file before", unreadable()),
        ("no file", absent()),
        ("pinned: no file", Facts { file: None, ..file(2) }.pinned(1)),
        ("compiling after an unpin", compiling().last(was_pinned)),
        ("file after an unpin", file(2).last(was_pinned)),
        ("file removed", removed().release(&one)),
        ("pinned, file removed", removed().release(&one).pinned(1)),
    ];
    let mut table = String::new();
    for (name, facts) in rows {
        let LastScan { file, pinned, removed } = facts.remember();
        let n = |digest: Option<Digest>| digest.map_or("-".to_owned(), |digest| digest.0[0].to_string());
        writeln!(table, "{name:<28} | file {}, pinned {pinned}, removed {}", n(file), n(removed)).unwrap();
    }
    expect![[r#"
        file                         | file 2, pinned false, removed -
        refused file                 | file 2, pinned false, removed -
        compiling: the file before   | file 1, pinned false, removed -
        unreadable: the file before  | file 1, pinned false, removed -
        no file                      | file -, pinned false, removed -
        pinned: no file              | file -, pinned true, removed -
        compiling after an unpin     | file -, pinned true, removed -
        file after an unpin          | file 2, pinned false, removed -
        file removed                 | file -, pinned false, removed 1
        pinned, file removed         | file -, pinned true, removed -
    "#]]
    .assert_eq(&table);
}

#[test]
fn replaced_versions_return_if_they_are_new_in_the_folder() {
    for (arrival, on_one, on_several) in
        [(Arrival::Fresh, true, true), (Arrival::AtStart, true, false), (Arrival::Old, false, false)]
    {
        assert_eq!(
            (arrival.may_return(false), arrival.may_return(true)),
            (on_one, on_several),
            "{arrival:?}"
        );
    }
}
