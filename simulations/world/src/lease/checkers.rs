//! What must always hold of leases. The checkers see what happens in true time and keep their own
//! books; they share no code with what they check.

use std::{collections::BTreeMap, time::Duration};

use rap_control_core::lease::Hold;
use rap_proto::{Digest, Generation, LeaseClass, Moment, lease::DRIFT_PPM};

use super::{admin::Wishes, database::Held};
use crate::kit::Verdict;

/// At most one node is active for a connection, at any instant; and the resource serves no
/// generation after it served a newer one.
pub const SINGLE_ACTIVE: &str = "single_active";
/// Every grant's generation is above all before it, also those that a failover lost.
pub const GENERATION_RISES: &str = "generation_rises";
/// No run of an agent goes on with what an earlier run held.
pub const FRESH_GRANT: &str = "fresh_grant";
/// Nobody is active without a valid beat.
pub const AUTHORITY: &str = "authority";
/// No working holder loses its connection without a reason.
pub const STICKINESS: &str = "stickiness";
/// No node takes a log for the newest that did not grow out of the one that it saw before.
pub const LOG_GROWS: &str = "log_grows";
/// When nothing fails, every enabled connection has an active holder and keeps it.
pub const LIVENESS: &str = "liveness";

#[derive(Debug, Default)]
pub struct Checkers {
    books: Vec<Book>,
    /// The log behind each root that was shown.
    shown: BTreeMap<Digest, Vec<Digest>>,
    /// The log that each node saw last.
    witnessed: BTreeMap<usize, Vec<Digest>>,
    looks: u64,
    pub verdict: Verdict,
}

#[derive(Debug, Default)]
struct Book {
    class: Option<LeaseClass>,
    granted: Generation,
    served: Generation,
    renewed_at: Moment,
    activated: BTreeMap<(usize, Generation), u32>,
    moves: u64,
}

impl Checkers {
    pub fn new(classes: &[LeaseClass]) -> Self {
        let book = |class: &LeaseClass| Book { class: Some(*class), ..Book::default() };
        Self { books: classes.iter().map(book).collect(), ..Self::default() }
    }

    /// How often this connection was granted.
    pub fn moves(&self, connection: usize) -> u64 {
        self.books[connection].moves
    }

    /// The nodes that touch a connection at this instant, each with its generation.
    pub fn touching(&mut self, connection: usize, nodes: &[(usize, Generation)]) {
        if let [one, other, ..] = nodes {
            let detail = format!(
                "connection {connection}: node {} under {} and node {} under {}",
                one.0, one.1, other.0, other.1
            );
            self.verdict.violated(SINGLE_ACTIVE, detail);
        }
    }

    pub fn served(&mut self, connection: usize, generation: Generation) {
        let book = &mut self.books[connection];
        if generation < book.served {
            let served = book.served;
            let detail = format!("connection {connection}: served {generation} after {served}");
            self.verdict.violated(SINGLE_ACTIVE, detail);
        } else {
            book.served = generation;
        }
    }

    pub fn renewed(&mut self, now: Moment, connection: usize) {
        self.books[connection].renewed_at = now;
    }

    /// A grant was stored in the place of `before`.
    pub fn granted(
        &mut self,
        now: Moment,
        connection: usize,
        node: usize,
        generation: Generation,
        before: Option<Held>,
    ) {
        let book = &mut self.books[connection];
        let highest = book.granted;
        let quiet = now.since(book.renewed_at);
        book.granted = highest.max(generation);
        book.renewed_at = now;
        book.moves += 1;
        if generation <= highest {
            let detail = format!("connection {connection}: granted {generation} after {highest}");
            self.verdict.violated(GENERATION_RISES, detail);
            return;
        }
        let taken = before.filter(|held| matches!(held.row.hold, Hold::Held { .. }));
        let least = self.books[connection].class.map_or(Duration::ZERO, shortest_life);
        if let Some(held) = taken.filter(|_| quiet < least) {
            let detail = format!(
                "connection {connection}: node {node} takes over from node {}, which renewed {} ms \
                 before",
                held.node,
                quiet.as_millis()
            );
            self.verdict.violated(STICKINESS, detail);
        }
    }

    pub fn activated(
        &mut self,
        connection: usize,
        node: usize,
        generation: Generation,
        incarnation: u32,
    ) {
        let first =
            *self.books[connection].activated.entry((node, generation)).or_insert(incarnation);
        if first != incarnation {
            let detail = format!(
                "connection {connection}: node {node} is active under {generation} again, after a \
                 restart"
            );
            self.verdict.violated(FRESH_GRANT, detail);
        }
    }

    pub fn without_beat(&mut self, connection: usize, node: usize) {
        let detail = format!("connection {connection}: node {node} is active without a beat");
        self.verdict.violated(AUTHORITY, detail);
    }

    /// Control shows this root, of a log of these leaves.
    pub fn shown(&mut self, root: Digest, log: &[Digest]) {
        self.shown.entry(root).or_insert_with(|| log.to_vec());
    }

    /// How often a node said that it saw a log.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// A node says that it saw the log of this root.
    pub fn witnessed(&mut self, node: usize, root: &Digest) {
        self.looks += 1;
        let Some(log) = self.shown.get(root).cloned() else {
            self.verdict.violated(LOG_GROWS, format!("node {node} saw a log that nobody showed"));
            return;
        };
        let size = log.len();
        let grew = |before: &Vec<Digest>| log.starts_with(before);
        if let Some(before) = self.witnessed.get(&node).filter(|before| !grew(before)) {
            let before = before.len();
            let detail =
                format!("node {node} saw {before} events, and takes {size} others for them");
            self.verdict.violated(LOG_GROWS, detail);
        }
        self.witnessed.insert(node, log);
    }

    /// A person looked at what this node saw, and lets it begin anew.
    pub fn trusted_again(&mut self, node: usize) {
        self.witnessed.remove(&node);
    }

    /// A replica asks a holder for its lease, knowing this.
    pub fn asked_for(&mut self, connection: usize, node: usize, known: &Wishes) {
        let wish = &known.connections[connection];
        let allowed = wish.enabled && wish.nodes.contains(&node);
        if allowed && !known.draining.contains(&node) {
            let detail = format!("connection {connection}: node {node} is asked for it, and works");
            self.verdict.violated(STICKINESS, detail);
        }
    }
}

impl AsRef<Verdict> for Checkers {
    fn as_ref(&self) -> &Verdict {
        &self.verdict
    }
}

/// How long a lease lasts at least, in true time.
fn shortest_life(class: LeaseClass) -> Duration {
    let million = 1_000_000;
    class.ttl() * million / (million + DRIFT_PPM) - Duration::from_millis(2)
}
