//! Which of control's servers a node asks, and which one the program `rap`.
//!
//! Every server answers everything, so a node stays with one until that one does not answer, and goes
//! back to none for its own sake. Where it goes is drawn, so that the nodes of a lost server
//! spread over the others, and a server that is added takes its share of them.
//!
//! What a server says of the others tells where to ask, and nothing more: whoever is asked proves
//! itself by the cluster's CA. A list that is wrong leaves the server that answers, and the one that was joined at.
//!
//! INVARIANT: the server that the node joined at stays known, and beside it at most [`MAX_SERVERS`].
//! INVARIANT: the server that answered last is known until another one has answered.
//! INVARIANT: the present server is a known one.

use std::{collections::BTreeSet, time::Duration};

use rap_proto::{ControlUrl, Moment, wire::node_api::MAX_SERVERS};
use serde::{Deserialize, Serialize};

use crate::{jitter::Jitter, record::Record};

/// The most servers that one call asks, one after the other.
pub const MAX_TURNS: usize = 3;
/// A server that answers is left for another one no sooner than this after the last time: each of
/// these is a new TLS handshake for every caller of the node.
pub const LEAVE_PAUSE: Duration = Duration::from_secs(10);
/// … and when the next one was no better, twice as long after that one, up to this: where all servers are
/// without a quorum, their nodes do not take turns at them. About as long as a beat lasts.
pub const LONGEST_LEAVE_PAUSE: Duration = Duration::from_secs(40);

/// What is kept of them between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldServers {
    /// As [`ControlUrl`] is written.
    pub servers: Vec<String>,
}

impl Record for HeldServers {
    const KIND: u8 = 11;
    const MAX_BYTES: usize = 8 * 1024;
}

#[derive(Debug, Clone)]
pub struct Servers {
    joined: ControlUrl,
    /// Which ones there are, as a server said last.
    named: Vec<ControlUrl>,
    /// Whether that came with a beat that counted.
    confirmed: bool,
    /// The last one that answered.
    answered: Option<ControlUrl>,
    /// These three: joined at, answered, named.
    known: BTreeSet<ControlUrl>,
    present: ControlUrl,
    changes: u64,
    on_disk: HeldServers,
    stale: Pauses,
    lonely: Pauses,
    jitter: Jitter,
}

/// Of servers that were left though they answered.
#[derive(Debug, Clone, Default)]
struct Pauses {
    /// The last time, and how long none is left after it.
    last: Option<(Moment, Duration)>,
}

impl Servers {
    /// Begins at any one of those that an earlier run knew.
    pub fn new(joined: ControlUrl, held: HeldServers, seed: u64) -> Self {
        let mut servers = Self::at(joined, parsed(&held.servers), seed);
        servers.on_disk = held;
        if let Some(drawn) = servers.jitter.pick(&servers.known) {
            servers.present = drawn.clone();
        }
        servers
    }

    /// Begins at `joined`, and knows the others as well.
    pub fn at(joined: ControlUrl, named: Vec<ControlUrl>, seed: u64) -> Self {
        let mut servers = Self {
            named,
            confirmed: false,
            answered: None,
            known: BTreeSet::new(),
            present: joined.clone(),
            joined,
            changes: 0,
            on_disk: HeldServers::default(),
            stale: Pauses::default(),
            lonely: Pauses::default(),
            jitter: Jitter::new(seed),
        };
        servers.know();
        servers
    }

    /// The one that is asked next.
    pub fn present(&self) -> &ControlUrl {
        &self.present
    }

    /// How many there are to ask.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// How often another one became the present one.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The last of `tried` answered this call: where the present one did not, it is the present one from now on.
    pub fn answered(&mut self, tried: &[ControlUrl]) {
        let Some((server, silent)) = tried.split_last() else { return };
        if self.answered.as_ref() != Some(server) {
            self.answered = Some(server.clone());
            self.know();
        }
        if silent.contains(&self.present) || !self.known.contains(&self.present) {
            self.go_to(server.clone());
        }
    }

    /// The last of `tried` did not answer this call: whom the call asks next, if anybody. What is `lost` cannot be
    /// connected to, and no call begins there any more; one that only kept silent may answer others.
    pub fn failed(&mut self, tried: &[ControlUrl], lost: bool) -> Option<ControlUrl> {
        // Another call may have found one that answers.
        let next = if tried.contains(&self.present) {
            self.other(tried)
        } else {
            Some(self.present.clone())
        };
        if lost && tried.last() == Some(&self.present) {
            match next.clone() {
                Some(next) => self.go_to(next),
                None => _ = self.go_elsewhere(),
            }
        }
        next.filter(|_| tried.len() < MAX_TURNS)
    }

    /// `from` answers, and another one may know more. Whether there is one; another call may have gone on to it before.
    pub fn leave(&mut self, now: Moment, from: &ControlUrl) -> bool {
        self.present == *from && self.count() > 1 && self.stale.pass(now) && self.go_elsewhere()
    }

    /// What the present one told of peers leads to none, and another one may know more. Whether there is one.
    pub fn discover(&mut self, now: Moment) -> bool {
        self.count() > 1 && self.lonely.pass(now) && self.go_elsewhere()
    }

    /// Beside a beat that counted, a server says which ones there are; whether that is news. One that names none
    /// says nothing.
    pub fn confirmed(&mut self, servers: &[String]) -> bool {
        self.stale = Pauses::default();
        self.confirmed |= !servers.is_empty();
        self.told(servers)
    }

    /// The same, where no beat can count yet: known until the agent ends.
    pub fn told(&mut self, servers: &[String]) -> bool {
        let named = parsed(servers);
        if named.is_empty() || named == self.named {
            return false;
        }
        self.named = named;
        let before = self.know();
        if before == self.known {
            return false;
        }
        let is_named = self.present == self.joined || self.named.contains(&self.present);
        let stays = is_named && self.known.contains(&self.present);
        // The one that answers, and is named no more, is only asked where nobody else answers.
        let there = self
            .known
            .iter()
            .filter(|server| **server == self.joined || self.named.contains(*server));
        if let Some(drawn) = self.jitter.pick(&there.cloned().collect()).cloned()
            && !(before.contains(&drawn) && stays)
        {
            self.go_to(drawn);
        }
        true
    }

    /// What is to be written, where that is not what is on disk.
    pub fn unkept(&self) -> Option<HeldServers> {
        let held = HeldServers { servers: self.known.iter().map(ToString::to_string).collect() };
        (self.confirmed && held != self.on_disk).then_some(held)
    }

    /// It is written.
    pub fn kept(&mut self, held: HeldServers) {
        self.on_disk = held;
    }

    /// Takes together whom it knows; whom it knew before.
    fn know(&mut self) -> BTreeSet<ControlUrl> {
        let mut known = BTreeSet::from([self.joined.clone()]);
        for server in self.answered.iter().chain(&self.named) {
            // The one that it joined at may be among them.
            if known.len() <= MAX_SERVERS || known.contains(server) {
                known.insert(server.clone());
            }
        }
        std::mem::replace(&mut self.known, known)
    }

    /// Any one that is not among `tried`.
    fn other(&mut self, tried: &[ControlUrl]) -> Option<ControlUrl> {
        let others = self.known.iter().filter(|server| !tried.contains(server));
        self.jitter.pick(&others.cloned().collect()).cloned()
    }

    fn go_elsewhere(&mut self) -> bool {
        let other = self.other(std::slice::from_ref(&self.present.clone()));
        other.map(|other| self.go_to(other)).is_some()
    }

    fn go_to(&mut self, server: ControlUrl) {
        if self.present != server {
            self.present = server;
            self.changes += 1;
        }
    }
}

impl Pauses {
    /// Whether the pause is over; then the next one begins.
    fn pass(&mut self, now: Moment) -> bool {
        let pause = match self.last {
            Some((at, pause)) if now.since(at) < pause => return false,
            Some((at, pause)) if now.since(at) < 2 * pause => (2 * pause).min(LONGEST_LEAVE_PAUSE),
            _ => LEAVE_PAUSE,
        };
        self.last = Some((now, pause));
        true
    }
}

/// What is written in another form than this release knows is left out.
fn parsed(servers: &[String]) -> Vec<ControlUrl> {
    servers.iter().filter_map(|text| text.parse().ok()).take(MAX_SERVERS + 1).collect()
}

#[cfg(test)]
mod tests;
