//! Suggestions for misspelt keys and names.

/// Maximum edit distance between a misspelt key and a suggestion.
const SUGGEST_EDITS_MAX: usize = 3;

/// The known key that is most similar to `name`, if it is similar enough.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let distance = |key: &&str| edits(&plain(name), &plain(key));
    let near = known.iter().min_by_key(|key| distance(key))?;
    let most = SUGGEST_EDITS_MAX.min(near.len().max(2) / 2);
    (distance(near) <= most).then_some(*near)
}

/// A suggestion as the end of a sentence; empty if no known word is similar.
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    nearest(word, known).map_or(String::new(), |near| format!("; did you mean {near:?}?"))
}

/// Levenshtein distance, one row at a time.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
