//! The stacked bar of a job's items by state.

use store::items::ItemCount;

/// Width of the whole bar, in its own units.
pub const WIDTH: u64 = 1_000;
/// Minimum width of a part, so that few items are visible, too.
const PART_MIN: u64 = 6;

/// States in the order of the bar: done on the left, states that need a person on the right.
const ORDER: [(&str, &str); 7] = [
    ("resolved", "resolved"),
    ("running", "running"),
    ("awaiting", "awaiting"),
    ("pending", "pending"),
    ("retrying", "retrying"),
    ("manual_required", "needs a person"),
    ("abandoned", "abandoned"),
];

pub struct Part {
    pub state: &'static str,
    pub label: &'static str,
    pub items: u32,
    pub x: u64,
    pub width: u64,
}

/// One part for each state that has items; together they fill the bar.
pub fn parts(counts: &[&ItemCount]) -> Vec<Part> {
    let mut parts: Vec<Part> = ORDER
        .iter()
        .filter_map(|(state, label)| {
            let items = counts.iter().filter(|c| c.state == *state).map(|c| c.items).sum();
            (items > 0).then_some(Part { state, label, items, x: 0, width: 0 })
        })
        .collect();
    let total: u64 = parts.iter().map(|part| u64::from(part.items)).sum();
    let room = WIDTH - PART_MIN * parts.len() as u64;
    let (mut sum, mut x) = (0, 0);
    for (at, part) in parts.iter_mut().enumerate() {
        sum += u64::from(part.items);
        let end = PART_MIN * (at as u64 + 1) + room * sum / total.max(1);
        (part.x, part.width) = (x, end - x);
        x = end;
    }
    parts
}
