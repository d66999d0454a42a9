//! What happened, for people to read after a failure and for comparing two runs of one seed.

use std::{
    collections::VecDeque,
    fmt::{Arguments, Write as _},
};

use rap_proto::{Digest, Moment};

/// How many lines a failure shows.
const SHOWN_LINES: usize = 60;

/// The last lines, and a hash over all.
#[derive(Debug, Default)]
pub struct Trace {
    lines: VecDeque<String>,
    digest: Digest,
    count: u64,
}

impl Trace {
    pub fn note(&mut self, now: Moment, what: Arguments<'_>) {
        let micros = now.micros();
        let shown = self.lines.len() == SHOWN_LINES;
        let mut line = shown.then(|| self.lines.pop_front()).flatten().unwrap_or_default();
        line.clear();
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        write!(line, "{seconds:>5}.{micros:06} {what}").expect("a text takes everything");
        self.digest = Digest::of_parts(&[self.digest.as_bytes(), line.as_bytes()]);
        self.count += 1;
        self.lines.push_back(line);
    }

    /// The same for two runs exactly when they noted the same.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
