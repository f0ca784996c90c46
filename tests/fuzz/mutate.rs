//! Almost valid inputs: seeds that are cut, repeated, mixed and altered.

use crate::support::random::Random;

/// Tokens with a special meaning for one of the parsers.
const WORDS: [&str; 36] = [
    "0",
    "-1",
    "1",
    "59",
    "60",
    "2147483648",
    "9223372036854775807",
    "18446744073709551616",
    "1e308",
    "1e-400",
    "NaN",
    "true",
    "null",
    "\"\"",
    "[]",
    "{}",
    "[[",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "\0",
    "\n",
    "\r\n",
    "*/",
    "*",
    "-",
    ",",
    "L",
    "W",
    "#",
    "@daily",
    "9999-12-31T23:59:60Z",
    "-009999-01-01T00:00:00Z",
    "Africa/Casablanca",
    "\u{202e}",
    "ß",
];
const INPUT_BYTES_MAX: usize = 32 << 10;

pub struct Mutator {
    random: Random,
    seeds: &'static [&'static str],
}

impl Mutator {
    pub fn new(seed: u64, seeds: &'static [&'static str]) -> Mutator {
        Mutator { random: Random::of(seed), seeds }
    }

    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..self.below(6) {
            self.bend(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn seed(&mut self) -> &'static [u8] {
        let n = self.below(self.seeds.len());
        self.seeds[n].as_bytes()
    }

    fn bend(&mut self, input: &mut Vec<u8>) {
        let (from, until) = self.span(input.len());
        match self.below(8) {
            0 => drop(input.drain(from..until)),
            1 => {
                let piece = input[from..until].repeat(1 + self.below(4));
                input.splice(until..until, piece);
            }
            2 => {
                let other = self.seed();
                let (begin, end) = self.span(other.len());
                input.splice(from..until, other[begin..end].iter().copied());
            }
            3 => {
                let byte = u8::try_from(self.below(256)).unwrap();
                input.insert(from, byte);
            }
            4 if from < input.len() => input[from] ^= 1 << self.below(8),
            5 => {
                let word = WORDS[self.below(WORDS.len())].repeat([1, 1, 1, 200][self.below(4)]);
                input.splice(from..from, word.into_bytes());
            }
            _ => {
                // Replaces a number or a word.
                let end = from + input[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                let word = WORDS[self.below(WORDS.len())];
                input.splice(from..end, word.bytes());
            }
        }
    }

    /// Returns a range, mostly a short one.
    fn span(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let most = if self.below(4) == 0 { length - from } else { (length - from).min(12) };
        (from, from + self.below(most + 1))
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(u64::try_from(end).unwrap())).unwrap()
    }
}
