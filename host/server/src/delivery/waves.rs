//! The waves in which the events of a claim are sent. Events of one key are in one request or in different waves, so
//! none is sent before the earlier ones of its key are taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use store::events::delivery::DueEvent;

/// What one wave may hold.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Requests that are sent at the same time.
    pub requests: usize,
    /// Events of one request.
    pub events: usize,
    /// Payload bytes of one request, unless it has one event only.
    pub bytes: usize,
    /// Events of one key in one request. More than one only if the sink takes a request as a whole.
    pub of_key: usize,
    /// Whether an event that failed before is sent in a request of its own, so that others do not fail with it again.
    pub retries_alone: bool,
}

impl Shape {
    /// All events in one request, at most `of_key` of each key.
    pub const fn whole(of_key: usize) -> Shape {
        Shape { requests: 1, events: usize::MAX, bytes: usize::MAX, of_key, retries_alone: false }
    }
}

type Key<'a> = (&'a str, &'a str);
/// Events that are sent together.
pub type Request<'a> = Vec<&'a DueEvent>;

/// The events of a claim that are not sent yet.
pub struct Queues<'a> {
    /// In the order of their first events.
    queues: Vec<Queue<'a>>,
    stopped: BTreeSet<Key<'a>>,
}

struct Queue<'a> {
    key: Key<'a>,
    events: VecDeque<&'a DueEvent>,
    /// Whether an event of the key was sent.
    is_begun: bool,
}

fn key(due: &DueEvent) -> Key<'_> {
    (&due.event.topic, &due.event.key)
}

impl<'a> Queues<'a> {
    /// `due` is in the order of publication.
    pub fn of(due: &'a [DueEvent]) -> Queues<'a> {
        let mut places: BTreeMap<Key<'a>, usize> = BTreeMap::new();
        let mut queues: Vec<Queue<'a>> = Vec::new();
        for due in due {
            let key = key(due);
            let place = *places.entry(key).or_insert(queues.len());
            match queues.get_mut(place) {
                Some(queue) => queue.events.push_back(due),
                None => queues.push(Queue { key, events: VecDeque::from([due]), is_begun: false }),
            }
        }
        Queues { queues, stopped: BTreeSet::new() }
    }

    /// Takes the next wave. It is empty if nothing is left.
    pub fn wave(&mut self, shape: Shape) -> Vec<Request<'a>> {
        let mut requests: Vec<Request<'a>> = Vec::new();
        // Payload bytes of the last request, and whether it takes more events.
        let (mut bytes, mut is_open) = (0, false);
        self.queues.retain(|queue| !queue.events.is_empty() && !self.stopped.contains(&queue.key));
        for queue in &mut self.queues {
            let is_alone = shape.retries_alone && queue.events.front().is_some_and(|due| due.tries > 1);
            let (count, more) = queue.next(if is_alone { 1 } else { shape.of_key }, shape.bytes);
            let fits = requests.last().is_some_and(|last| last.len().saturating_add(count) <= shape.events)
                && bytes + more <= shape.bytes;
            if !is_open || is_alone || !fits {
                if requests.len() == shape.requests {
                    break;
                }
                requests.push(Vec::new());
                (bytes, is_open) = (0, true);
            }
            if let Some(last) = requests.last_mut() {
                last.extend(queue.events.drain(..count));
            }
            queue.is_begun = true;
            bytes += more;
            is_open &= !is_alone;
        }
        requests
    }

    /// Holds back the rest of this event's key. Returns `false` if that was done before.
    pub fn stop(&mut self, due: &'a DueEvent) -> bool {
        self.stopped.insert(key(due))
    }

    /// The first event of each key of which none was sent.
    pub fn unsent(&self) -> Vec<&'a DueEvent> {
        let unsent = self.queues.iter().filter(|queue| !queue.is_begun);
        unsent.filter_map(|queue| queue.events.front().copied()).collect()
    }
}

impl Queue<'_> {
    /// How many of the first events go into one request, and their payload bytes. At least one.
    fn next(&self, events: usize, bytes: usize) -> (usize, usize) {
        let (mut count, mut sum) = (0, 0);
        for due in self.events.iter().take(events) {
            let more = due.event.payload.len();
            if count > 0 && sum + more > bytes {
                break;
            }
            (count, sum) = (count + 1, sum + more);
        }
        (count, sum)
    }
}

#[cfg(test)]
mod tests {
    use domain::id::EventId;
    use jiff::Timestamp;
    use store::events::outbox::EventView;

    use super::*;

    /// Each letter is a key; a capital letter is an event that failed before.
    fn due(keys: &str) -> Vec<DueEvent> {
        let event = |(seq, key): (usize, char)| DueEvent {
            event: EventView {
                id: EventId::new(Timestamp::UNIX_EPOCH),
                topic: "t".to_owned(),
                key: key.to_ascii_lowercase().to_string(),
                payload: format!("{seq:02}"),
                job: "wallet".parse().unwrap(),
                created_at: Timestamp::UNIX_EPOCH,
            },
            tries: if key.is_uppercase() { 2 } else { 1 },
            seq: seq as i64,
        };
        keys.chars().enumerate().map(event).collect()
    }

    /// The waves, separated by spaces; requests by commas.
    fn waves(due: &[DueEvent], shape: Shape) -> String {
        let mut queues = Queues::of(due);
        let text = |request: &Request<'_>| {
            request.iter().map(|due| format!("{}{}", due.event.key, due.seq)).collect::<String>()
        };
        let mut waves = Vec::new();
        loop {
            let wave = queues.wave(shape);
            if wave.is_empty() {
                return waves.join(" ");
            }
            waves.push(wave.iter().map(text).collect::<Vec<_>>().join(","));
        }
    }

    fn array(events: usize) -> Shape {
        Shape { requests: 2, events, bytes: usize::MAX, of_key: events, retries_alone: true }
    }

    #[test]
    fn a_wave_has_one_event_of_each_key() {
        assert_eq!(waves(&due("aabac"), Shape::whole(1)), "a0b2c4 a1 a3");
        assert_eq!(waves(&due("aabac"), Shape::whole(usize::MAX)), "a0a1a3b2c4");
        assert_eq!(waves(&[], Shape::whole(1)), "");
    }

    #[test]
    fn a_request_has_all_events_of_a_key_in_its_wave() {
        assert_eq!(waves(&due("aabac"), array(1)), "a0,b2 a1,c4 a3");
        assert_eq!(waves(&due("aabac"), array(2)), "a0a1,b2c4 a3");
        assert_eq!(waves(&due("aabac"), array(3)), "a0a1a3,b2c4");
    }

    #[test]
    fn an_event_that_failed_is_sent_alone() {
        assert_eq!(waves(&due("Aab"), array(3)), "a0,b2 a1");
        assert_eq!(waves(&due("bA"), array(3)), "b0,a1");
        assert_eq!(waves(&due("Aab"), Shape::whole(1)), "a0b2 a1");
    }

    #[test]
    fn payloads_of_a_request_are_limited() {
        assert_eq!(waves(&due("abcaa"), Shape { bytes: 4, ..array(9) }), "a0a3,b1c2 a4");
        assert_eq!(waves(&due("ab"), Shape { bytes: 1, ..array(9) }), "a0,b1");
    }

    #[test]
    fn a_stopped_key_is_sent_no_further() {
        let due = due("aabb");
        let mut queues = Queues::of(&due);
        assert_eq!(queues.wave(Shape { requests: 1, ..array(1) }).concat()[0].seq, 0);
        assert_eq!(queues.unsent().iter().map(|due| due.seq).collect::<Vec<_>>(), [2], "of a key that waits");
        assert!(queues.stop(&due[0]) && !queues.stop(&due[0]));
        let rest: Vec<i64> = queues.wave(array(9)).concat().iter().map(|due| due.seq).collect();
        assert_eq!(rest, [2, 3]);
        assert!(queues.unsent().is_empty() && queues.wave(array(9)).is_empty());
    }
}
