//! Fair scheduling: how the jobs of one host share its slots and its guest memory.
//!
//! The rule is max-min fairness over two resources (dominant resource fairness). The next attempt goes to the
//! job whose larger share of the two resources is the smallest. Running attempts are not stopped in favour of
//! another job. A job with running attempts therefore leaves capacity for one attempt of each job that has
//! none.

use jiff::Timestamp;

/// Slots for attempts, and guest memory in MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    pub slots: usize,
    pub memory: usize,
}

impl Capacity {
    /// The resources of one attempt.
    pub fn attempt(memory: usize) -> Capacity {
        Capacity { slots: 1, memory }
    }

    pub fn plus(self, other: Capacity) -> Capacity {
        Capacity {
            slots: self.slots.saturating_add(other.slots),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    pub fn minus(self, other: Capacity) -> Capacity {
        Capacity {
            slots: self.slots.saturating_sub(other.slots),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    /// Whether both are at least those of `other`.
    pub fn holds(self, other: Capacity) -> bool {
        self.slots >= other.slots && self.memory >= other.memory
    }

    fn at_most(self, other: Capacity) -> Capacity {
        Capacity { slots: self.slots.min(other.slots), memory: self.memory.min(other.memory) }
    }

    pub fn half(self) -> Capacity {
        Capacity { slots: self.slots / 2, memory: self.memory / 2 }
    }
}

/// A job with due work.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The order among jobs with equal shares; earlier comes first.
    pub turn: Timestamp,
    /// Running attempts of the job on this host.
    pub running: usize,
    /// Guest memory of one attempt, in MiB.
    pub memory: usize,
    /// Attempts that the job may start now.
    pub wanted: usize,
    /// Whether capacity is reserved until an attempt of this job fits. False if the job's last claim returned
    /// no items.
    pub waits: bool,
}

/// How many attempts each of `wishes` may start. `all` is the host's capacity and `free` the unused part of
/// it. `idle` is the capacity for one attempt of each job that has no running attempt and no due item.
pub fn share(all: Capacity, free: Capacity, idle: Capacity, wishes: &[Wish]) -> Vec<usize> {
    let mut granted = vec![0; wishes.len()];
    let mut open: Vec<usize> = (0..wishes.len()).collect();
    let mut free = free;
    let mut reserved = wishes
        .iter()
        .filter(|wish| wish.running == 0)
        .fold(idle, |reserved, wish| reserved.plus(Capacity::attempt(wish.memory)));
    loop {
        open.retain(|&at| granted[at] < wishes[at].wanted);
        let used = |at: usize| wishes[at].running + granted[at];
        let next = open.iter().copied().min_by(|&one, &other| {
            let [a, b] = [one, other].map(|at| dominant(all, used(at), wishes[at].memory));
            a.total_cmp(&b).then(wishes[one].turn.cmp(&wishes[other].turn))
        });
        let Some(at) = next else { return granted };
        let (wish, need) = (&wishes[at], Capacity::attempt(wishes[at].memory));
        let is_first = used(at) == 0;
        // The reserve is limited to half of the host: jobs with work are not slowed down further for jobs
        // that may get some.
        let kept = if is_first { Capacity::default() } else { reserved.at_most(all.half()) };
        if free.holds(need.plus(kept)) {
            granted[at] += 1;
            free = free.minus(need);
            if is_first {
                reserved = reserved.minus(need);
            }
            continue;
        }
        // A job below its fair share reserves the free capacity until its attempt fits.
        let fair = 1.0 / wishes.len() as f64;
        let is_below = is_first || dominant(all, used(at) + 1, wish.memory) <= fair;
        if wish.waits && is_below && all.holds(need) {
            return granted;
        }
        open.retain(|&other| other != at);
    }
}

/// The larger of the two shares, slots and memory, that this many attempts use.
fn dominant(all: Capacity, attempts: usize, memory: usize) -> f64 {
    let share = |used: usize, all: usize| used as f64 / all.max(1) as f64;
    share(attempts, all.slots).max(share(attempts.saturating_mul(memory), all.memory))
}
