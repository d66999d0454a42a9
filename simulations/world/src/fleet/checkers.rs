//! What must always hold of a fleet. The checkers see what nodes do, keep their own books of whom
//! each was told of and whom it is connected to, and share no code with what they check.

mod rules;
mod tried;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_proto::Moment;

use crate::kit::Verdict;

use super::scope::Scope;
use rules::Said;
use tried::Tried;

pub use rules::OBEYED_WITHIN;
pub use tried::FOUND_WITHIN;

/// No node turns to one that its directory does not name, or leads a lane over one that is no relay
/// for the organization whose lane it is.
pub const UNAUTHORISED: &str = "unauthorised";
/// No node has more connections than its kind may, or longer than it takes to be told of another rule.
pub const PEER_BOUND: &str = "peer_bound";
/// When nothing fails, every node comes to have enough peers, all of them there, and its first
/// choice of a relay forwards.
pub const CONVERGENCE: &str = "convergence";
/// In the calm, who probed through a relay in vain, and through another one not, soon prefers another
/// one.
pub const LIAR_FOUND: &str = "liar_found";
/// Nobody opens the same connection again and again, and when nothing fails nearly none is opened.
pub const NO_FLAPPING: &str = "no_flapping";
/// The five steps of the way back come in their order.
pub const RECOVERY_ORDER: &str = "recovery_order";

/// What an organization is shown follows from the workers that it is meant to have and from whether
/// an entry lives, and from nothing else: it is one word, whatever becomes of relays and paths.
pub const VIEW_CONSTANT: &str = "view_constant";

/// The most relays that a path leads over.
pub const MOST_RELAYS: usize = 3;
/// How often a node may open the same connection within a minute.
pub const MAX_OPENED_A_MINUTE: usize = 6;
/// How many connections a node may open in the calm; and where a relay forwards now and then, and is
/// found and believed again in turns.
pub const MAX_OPENED_IN_THE_CALM: usize = 2;
pub const MAX_OPENED_BESIDE_A_LIAR: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// For how long after its last word a node counts as alive.
const ALIVE: Duration = Duration::from_secs(45);
const STEPS: [&str; 5] = ["active", "warm", "cold", "discovery", "snapshot"];

/// What a node was told, and what it did.
#[derive(Debug)]
struct Book {
    named: BTreeSet<usize>,
    bound: Said<usize>,
    open: BTreeSet<usize>,
    /// When each connection was opened, those of the last minute.
    opened: BTreeMap<usize, Vec<Moment>>,
    opened_in_the_calm: usize,
    step: Option<usize>,
    tried: Tried,
}

impl Book {
    fn new(bound: usize) -> Self {
        Self {
            named: BTreeSet::new(),
            bound: Said::new(bound),
            open: BTreeSet::new(),
            opened: BTreeMap::new(),
            opened_in_the_calm: 0,
            step: None,
            tried: Tried::default(),
        }
    }
}

#[derive(Debug)]
pub struct Checkers {
    books: Vec<Book>,
    relays: BTreeMap<usize, Said<Scope>>,
    /// By node and organization, over which relays it leads.
    led: BTreeMap<(usize, usize), Vec<usize>>,
    /// A relay that takes nobody more.
    full: Option<usize>,
    most_in_the_calm: usize,
    calm: bool,
    /// Of those that control knows of: when each was heard last.
    entries: BTreeMap<usize, Moment>,
    workers: BTreeMap<usize, Moment>,
    pub verdict: Verdict,
}

impl Checkers {
    pub fn new(bounds: impl IntoIterator<Item = usize>, relays: BTreeMap<usize, Scope>) -> Self {
        let scopes = relays.into_iter().map(|(relay, scope)| (relay, Said::new(scope)));
        Self {
            books: bounds.into_iter().map(Book::new).collect(),
            relays: scopes.collect(),
            led: BTreeMap::new(),
            full: None,
            most_in_the_calm: MAX_OPENED_IN_THE_CALM,
            calm: false,
            entries: BTreeMap::new(),
            workers: BTreeMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Control knows of these.
    pub fn serve(&mut self, entries: &[usize], workers: &[usize]) {
        let unheard =
            |nodes: &[usize]| nodes.iter().map(|node| (*node, Moment::default())).collect();
        (self.entries, self.workers) = (unheard(entries), unheard(workers));
    }

    /// A relay takes nobody more from the start.
    pub const fn fills(&mut self, relay: usize) {
        self.full = Some(relay);
    }

    /// A relay forwards now and then.
    pub const fn expect_turns(&mut self) {
        self.most_in_the_calm = MAX_OPENED_BESIDE_A_LIAR;
    }

    /// Control hears that a node lives.
    pub fn heard(&mut self, now: Moment, node: usize) {
        let known = self.entries.get_mut(&node).or(self.workers.get_mut(&node));
        known.into_iter().for_each(|at| *at = now);
    }

    /// A node is no part of the cluster any more.
    pub fn revoked(&mut self, node: usize) {
        self.entries.remove(&node);
        self.workers.remove(&node);
    }

    /// What the organization is shown.
    pub fn shown(&mut self, now: Moment, view: &str) {
        let lives = |at: &&Moment| now.since(**at) <= ALIVE;
        let working = self.workers.values().filter(lives).count();
        let due = match self.entries.values().any(|at| lives(&at)) {
            true if working > 0 && working == self.workers.len() => "available",
            true if working > 0 => "degraded",
            _ => "unavailable",
        };
        if view != due {
            let detail = format!("the organization is shown {view:?} where it is {due:?}");
            self.verdict.violated(VIEW_CONSTANT, detail);
        }
    }

    /// From now on nearly nothing may change.
    pub fn calm(&mut self) {
        self.calm = true;
    }

    /// The node is down, and has no connection.
    pub fn stopped(&mut self, node: usize) {
        let book = &mut self.books[node];
        book.open.clear();
        book.step = None;
        book.tried.clear();
    }

    pub fn told(&mut self, node: usize, named: BTreeSet<usize>) {
        self.books[node].named = named;
    }

    /// The node speaks to another one.
    pub fn turned_to(&mut self, node: usize, other: usize) {
        if !self.books[node].named.contains(&other) {
            self.verdict
                .violated(UNAUTHORISED, format!("node {node} turns to {other}, a stranger"));
        }
    }

    /// The node tries whether this one forwards.
    pub fn probes_through(&mut self, node: usize, relay: usize) {
        self.turned_to(node, relay);
        if !self.relays.contains_key(&relay) {
            self.verdict
                .violated(UNAUTHORISED, format!("node {node} probes through {relay}, no relay"));
        }
    }

    /// Whether a probe through a relay arrives. Returns whether so many in a row did not, now, that
    /// the relay is found.
    pub fn tried(
        &mut self,
        now: Moment,
        node: usize,
        (relay, egress): (usize, usize),
        arrives: bool,
    ) -> bool {
        self.books[node].tried.note(now, relay, egress, arrives)
    }

    /// Whether the node must know by its probes that the relay swallows.
    pub fn has_found(&self, now: Moment, node: usize, relay: usize) -> bool {
        self.books[node].tried.is_found(now, relay)
    }

    /// Whether its last probe through the relay arrived.
    pub fn saw_forward(&self, node: usize, relay: usize) -> bool {
        self.books[node].tried.forwards(relay)
    }

    /// The node would lead an organization over these first of all.
    pub fn prefers(&mut self, now: Moment, node: usize, organization: usize, relays: &[usize]) {
        let Book { named, tried, .. } = &self.books[node];
        let found = relays.iter().find(|relay| tried.is_found(now, **relay));
        let others = named.iter().filter(|it| self.relays_for(now, **it, organization));
        let mut others = others.filter(|it| self.full != Some(**it));
        if let Some(found) = found
            && self.calm
            && others.any(|other| tried.forwards(*other))
        {
            let detail = format!("node {node} prefers {found}, through which nothing arrives");
            self.verdict.violated(LIAR_FOUND, detail);
        }
    }

    /// The node wants these to forward for an organization, in their order.
    pub fn leads_over(&mut self, now: Moment, node: usize, organization: usize, relays: &[usize]) {
        if relays.len() > MOST_RELAYS {
            self.verdict.violated(UNAUTHORISED, format!("node {node} leads over {relays:?}"));
        }
        for relay in relays.iter().copied() {
            self.turned_to(node, relay);
            if !self.relays_for(now, relay, organization) {
                let detail = format!("node {node} leads {organization} over {relays:?}");
                self.verdict.violated(UNAUTHORISED, format!("{detail}, not {relay}'s to forward"));
            }
        }
    }

    /// A relay forwards for an organization, from whoever asked it to the next one.
    pub fn passes_on(
        &mut self,
        now: Moment,
        relay: usize,
        (from, to): (usize, usize),
        organization: usize,
    ) {
        self.turned_to(relay, from);
        self.turned_to(relay, to);
        let next_fits = !self.relays.contains_key(&to) || self.relays_for(now, to, organization);
        if !self.relays_for(now, relay, organization) || !next_fits {
            let detail = format!("node {relay} forwards {organization} from {from} to {to}");
            self.verdict.violated(UNAUTHORISED, detail);
        }
    }

    fn relays_for(&self, now: Moment, node: usize, organization: usize) -> bool {
        self.relays.get(&node).is_some_and(|scope| scope.covers(now, organization))
    }

    /// The node asks over a connection that stays.
    pub fn holds(&mut self, now: Moment, node: usize, other: usize) {
        self.turned_to(node, other);
        let book = &mut self.books[node];
        book.open.insert(other);
        let (open, bound) = (book.open.len(), book.bound.most(now));
        if open > bound {
            self.verdict
                .violated(PEER_BOUND, format!("node {node} has {open} connections of {bound}"));
        }
    }

    /// A connection that was asked for is there.
    pub fn opened(&mut self, now: Moment, node: usize, other: usize) {
        let book = &mut self.books[node];
        let times = book.opened.entry(other).or_default();
        times.retain(|at| now.since(*at) < MINUTE);
        times.push(now);
        let often = times.len();
        book.opened_in_the_calm += usize::from(self.calm);
        let calm = book.opened_in_the_calm;
        if often > MAX_OPENED_A_MINUTE {
            let detail = format!("node {node} opened {often} connections to {other} in a minute");
            self.verdict.violated(NO_FLAPPING, detail);
        }
        if calm > self.most_in_the_calm {
            self.verdict.violated(
                NO_FLAPPING,
                format!("node {node} opened {calm} connections in the calm"),
            );
        }
    }

    pub fn released(&mut self, node: usize, other: usize) {
        self.books[node].open.remove(&other);
    }

    pub fn open(&self, node: usize) -> &BTreeSet<usize> {
        &self.books[node].open
    }

    pub fn named(&self, node: usize) -> &BTreeSet<usize> {
        &self.books[node].named
    }

    /// The node's way back is at this step; `None`: somebody answers.
    pub fn recovering(&mut self, node: usize, step: Option<&'static str>) {
        let next = step.and_then(|step| STEPS.iter().position(|one| *one == step));
        let before = std::mem::replace(&mut self.books[node].step, next);
        let fits = match (before, next) {
            (_, None) => true,
            // A new way back, a new round, or a newer directory for whoever waited for one.
            (None, Some(0)) => true,
            (Some(before), Some(0)) => before >= 3,
            (Some(before), Some(next)) => next == before + 1,
            (None, Some(_)) => false,
        };
        if !fits {
            let name = |step: Option<usize>| step.map_or("none", |step| STEPS[step]);
            let detail = format!("node {node} goes from {} to {}", name(before), name(next));
            self.verdict.violated(RECOVERY_ORDER, detail);
        }
    }
}

impl AsRef<Verdict> for Checkers {
    fn as_ref(&self) -> &Verdict {
        &self.verdict
    }
}
