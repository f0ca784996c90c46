//! A scripted runner, which records its calls.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::effect::{Effect, Event};
use domain::failure::Failure;
use domain::id::Digest;
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::outcome::Outcome;
use domain::runner::{Call, CallReport, FoundItem, Page, PageRequest, Readiness, Runner, Usage};
use tokio::sync::{Notify, Semaphore};

/// Topic of the event that each attempt publishes. The event exists if and only if the attempt was resolved.
pub const TOPIC: &str = "tried";

/// The behaviour of one attempt. An item without a script is resolved.
pub enum Act {
    End(Result<Outcome, Failure>),
    /// Waits until the gate is opened, then is resolved.
    Hold(Gate),
    Panic,
}

/// The behaviour of one call of `discover`. Without a script it finds no items.
pub enum Look {
    Page(Page),
    Hold(Gate, Page),
    Fail(Failure),
    Panic,
}

/// Closed until it is opened, then open for ever.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn new() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.add_permits(1_000);
    }

    async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// Recorded lines, and a notification for each new one.
#[derive(Default)]
pub struct Seen {
    lines: Mutex<Vec<String>>,
    pub more: Notify,
}

impl Seen {
    pub fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
        self.more.notify_waiters();
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn has(&self, line: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|seen| seen == line)
    }

    /// The number of lines with this prefix.
    pub fn count(&self, start: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|seen| seen.starts_with(start)).count()
    }
}

/// State that all hosts of a test share.
#[derive(Default)]
pub struct Script {
    acts: Mutex<HashMap<String, VecDeque<Act>>>,
    looks: Mutex<VecDeque<Look>>,
    pub blocked: AtomicBool,
    /// How many of the next readiness checks panic, and with them the loops that make them.
    pub panics: AtomicUsize,
    running: AtomicUsize,
    /// The maximum of attempts that ran at the same time.
    pub running_max: AtomicUsize,
    discovering: AtomicUsize,
    /// The maximum of discoveries that ran at the same time.
    pub discovering_max: AtomicUsize,
    pub seen: Arc<Seen>,
}

impl Script {
    /// Scripts the next attempts of `key`, in order.
    pub fn of(&self, key: &str, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().entry(key.to_owned()).or_default().extend(acts);
    }

    pub fn fails(&self, key: &str, failures: impl IntoIterator<Item = Failure>) {
        self.of(key, failures.into_iter().map(|failure| Act::End(Err(failure))));
    }

    pub fn holds(&self, key: &str) -> Gate {
        let gate = Gate::new();
        self.of(key, [Act::Hold(gate.clone())]);
        gate
    }

    /// Scripts the next call of `discover`.
    pub fn look(&self, look: Look) {
        self.looks.lock().unwrap().push_back(look);
    }

    /// Scripts a discovery that finds these keys, in one page.
    pub fn finds(&self, keys: &[&str]) {
        self.look(Look::Page(page(keys, None)));
    }

    /// Scripts `times` discoveries that find the same keys.
    pub fn finds_each_time(&self, keys: &[&str], times: usize) {
        (0..times).for_each(|_| self.finds(keys));
    }
}

pub fn page(keys: &[&str], next: Option<&str>) -> Page {
    let found = |key: &&str| FoundItem { key: (*key).to_owned(), payload: "{}".to_owned() };
    Page { items: keys.iter().map(found).collect(), next: next.map(str::to_owned) }
}

pub struct Fake {
    pub host: &'static str,
    pub script: Arc<Script>,
}

/// Records a call that ended without a result because its future was dropped.
struct Watch<'a> {
    script: &'a Script,
    name: Option<String>,
}

impl Watch<'_> {
    fn new(script: &Script, name: String) -> Watch<'_> {
        let running = script.running.fetch_add(1, Ordering::SeqCst) + 1;
        script.running_max.fetch_max(running, Ordering::SeqCst);
        Watch { script, name: Some(name) }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.script.running.fetch_sub(1, Ordering::SeqCst);
        if let Some(name) = self.name.take() {
            self.script.seen.note(format!("dropped {name}"));
        }
    }
}

struct Discovering<'a>(&'a Script);

impl Drop for Discovering<'_> {
    fn drop(&mut self) {
        self.0.discovering.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Runner for Fake {
    fn readiness(&self, _: &JobSpec) -> Readiness {
        let less = |panics: usize| panics.checked_sub(1);
        if self.script.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            std::panic::resume_unwind(Box::new("readiness"));
        }
        if self.script.blocked.load(Ordering::Relaxed) {
            return Readiness::Blocked("the plugin is not there".to_owned());
        }
        Readiness::Ready(Digest([7; 32]))
    }

    async fn discover(&self, call: Call<PageRequest>) -> CallReport<Page> {
        let cursor = call.input.cursor.as_deref().unwrap_or("start");
        self.script.seen.note(format!("{} discovers from {cursor}", self.host));
        let discovering = self.script.discovering.fetch_add(1, Ordering::SeqCst) + 1;
        self.script.discovering_max.fetch_max(discovering, Ordering::SeqCst);
        let _end = Discovering(&self.script);
        let look = self.script.looks.lock().unwrap().pop_front();
        report(match look {
            None => Ok(Page::default()),
            Some(Look::Page(page)) => Ok(page),
            Some(Look::Hold(gate, page)) => {
                gate.pass().await;
                Ok(page)
            }
            Some(Look::Fail(failure)) => Err(failure),
            Some(Look::Panic) => std::panic::resume_unwind(Box::new("discover")),
        })
    }

    async fn process(&self, mut call: Call<Claimed>) -> CallReport<Outcome> {
        if let Some(share) = &mut call.share {
            // The instance is the number of its items.
            let before = share.start().and_then(|kept| kept.downcast::<u32>().ok());
            let number = before.map_or(1, |before| *before + 1);
            self.script.seen.note(format!("{} shares {number}", self.host));
            share.keep(Box::new(number));
        }
        let item = &call.input;
        let mut watch = Watch::new(&self.script, format!("{} {}", self.host, item.key));
        // A test moves the clock as soon as it sees the start, so the guest's calls to its host come first.
        let begun = Event::new(TOPIC, &item.key, item.idempotency_key());
        call.scope.add(Effect::Event(begun)).await.unwrap();
        self.script.seen.note(format!("{} begins {} #{}", self.host, item.key, item.number()));
        let act = self.script.acts.lock().unwrap().get_mut(&item.key).and_then(VecDeque::pop_front);
        let result = match act {
            None => Ok(Outcome::Resolved { note: None }),
            Some(Act::End(result)) => result,
            Some(Act::Hold(gate)) => {
                gate.pass().await;
                Ok(Outcome::Resolved { note: Some("held".to_owned()) })
            }
            Some(Act::Panic) => {
                watch.name = None;
                std::panic::resume_unwind(Box::new("process"))
            }
        };
        watch.name = None;
        report(result)
    }
}

fn report<T>(result: Result<T, Failure>) -> CallReport<T> {
    let usage = Usage { wall_us: 1, memory_bytes_max: 2, ..Usage::default() };
    CallReport { result, digest: Some(Digest([7; 32])), usage, log: String::new() }
}
