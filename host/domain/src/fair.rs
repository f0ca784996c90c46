//! How the jobs of one host share its slots and its guest memory.
//!
//! The rule is max-min fairness over two resources (dominant resource fairness): the next attempt goes to the job whose
//! larger share of the two is the smallest. Attempts that run are not stopped for another job, so a job that runs some
//! leaves room for one attempt of each job that runs none.

use jiff::Timestamp;

/// Slots for attempts, and guest memory in MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    pub slots: usize,
    pub memory: usize,
}

impl Room {
    /// What one attempt takes.
    pub fn attempt(memory: usize) -> Room {
        Room { slots: 1, memory }
    }

    pub fn plus(self, other: Room) -> Room {
        Room {
            slots: self.slots.saturating_add(other.slots),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    pub fn minus(self, other: Room) -> Room {
        Room {
            slots: self.slots.saturating_sub(other.slots),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    fn holds(self, other: Room) -> bool {
        self.slots >= other.slots && self.memory >= other.memory
    }

    fn at_most(self, other: Room) -> Room {
        Room { slots: self.slots.min(other.slots), memory: self.memory.min(other.memory) }
    }

    fn half(self) -> Room {
        Room { slots: self.slots / 2, memory: self.memory / 2 }
    }
}

/// A job with due work.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The order among jobs with equal shares: earlier is first.
    pub turn: Timestamp,
    /// Attempts of the job that run on this host.
    pub running: usize,
    /// Guest memory of one attempt, in MiB.
    pub memory: usize,
    /// Attempts that the job may start now.
    pub wanted: usize,
    /// Whether others wait until an attempt of this job fits. Not so if the job's last claim brought nothing.
    pub waits: bool,
}

/// How many attempts each of `wishes` may start. `all` is what the host has, `free` what is left of it, and `idle` what
/// one attempt each takes of the jobs that run nothing and have nothing due.
pub fn share(all: Room, free: Room, idle: Room, wishes: &[Wish]) -> Vec<usize> {
    let mut granted = vec![0; wishes.len()];
    let mut open: Vec<usize> = (0..wishes.len()).collect();
    let mut free = free;
    let mut reserved = wishes
        .iter()
        .filter(|wish| wish.running == 0)
        .fold(idle, |reserved, wish| reserved.plus(Room::attempt(wish.memory)));
    loop {
        open.retain(|&at| granted[at] < wishes[at].wanted);
        let used = |at: usize| wishes[at].running + granted[at];
        let next = open.iter().copied().min_by(|&one, &other| {
            let [a, b] = [one, other].map(|at| dominant(all, used(at), wishes[at].memory));
            a.total_cmp(&b).then(wishes[one].turn.cmp(&wishes[other].turn))
        });
        let Some(at) = next else { return granted };
        let (wish, need) = (&wishes[at], Room::attempt(wishes[at].memory));
        let is_first = used(at) == 0;
        // The reserve takes half of the host at most: jobs that have work are not slowed down further for those that may have some.
        let kept = if is_first { Room::default() } else { reserved.at_most(all.half()) };
        if free.holds(need.plus(kept)) {
            granted[at] += 1;
            free = free.minus(need);
            if is_first {
                reserved = reserved.minus(need);
            }
            continue;
        }
        // A job that is below its fair share keeps what is free until its attempt fits.
        let fair = 1.0 / wishes.len() as f64;
        let is_below = is_first || dominant(all, used(at) + 1, wish.memory) <= fair;
        if wish.waits && is_below && all.holds(need) {
            return granted;
        }
        open.retain(|&other| other != at);
    }
}

/// The larger of the shares that so many attempts have of slots and memory.
fn dominant(all: Room, attempts: usize, memory: usize) -> f64 {
    let share = |used: usize, all: usize| used as f64 / all.max(1) as f64;
    share(attempts, all.slots).max(share(attempts.saturating_mul(memory), all.memory))
}
