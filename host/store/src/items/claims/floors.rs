//! Where the last large claim of each job ended. On Postgres, rows of `due` that claims have deleted stay in its index
//! until a vacuum, in front of those that are left: without a floor, each claim would step over all of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::{ItemId, JobName};
use uuid::Uuid;

use crate::items::claims::Position;
use crate::items::places::NEW;

/// Claims of fewer items have no floor: they step over few rows.
const ITEMS_MIN: usize = 64;
/// Claims above one floor. Then one claim looks for items that became due below it.
const USES_MAX: u32 = 16;

/// The due time and the id of the last item of a claim.
pub(crate) type Floor = (i64, ItemId);

/// Below all items.
pub(crate) const GROUND: Floor = (i64::MIN, ItemId(Uuid::nil()));

#[derive(Debug, Default)]
pub(crate) struct Floors(Mutex<HashMap<JobName, (Floor, u32)>>);

impl Floors {
    /// The floor of the next claim.
    pub fn of(&self, job: &JobName) -> Floor {
        match self.floors().get_mut(job) {
            Some((floor, uses)) if *uses < USES_MAX => {
                *uses += 1;
                *floor
            }
            _ => GROUND,
        }
    }

    /// Records the end of a claim above `floor`.
    pub fn claimed<'a>(&self, job: &JobName, floor: Floor, positions: impl Iterator<Item = &'a Position>) {
        let (mut items, mut last) = (0, None);
        for (priority, due_at, id) in positions {
            items += 1;
            if *priority == NEW {
                last = last.max(Some((*due_at, *id)));
            }
        }
        let mut floors = self.floors();
        match last.filter(|_| items >= ITEMS_MIN) {
            Some(last) if floor == GROUND => drop(floors.insert(job.clone(), (last, 0))),
            Some(last) => drop(floors.get_mut(job).map(|(floor, _)| *floor = last)),
            None => drop(floors.remove(job)),
        }
    }

    fn floors(&self) -> MutexGuard<'_, HashMap<JobName, (Floor, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
