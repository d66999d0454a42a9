//! Which of control's servers a node asks.
//!
//! Every server answers everything, so a node stays with one until that one does not answer, and goes
//! back to none for its own sake. Where it goes is drawn, so that the nodes of a lost server
//! spread over the others, and a server that is added takes its share of them.
//!
//! What a server says of the others tells where to ask, and nothing more: whoever is asked proves
//! itself by the cluster's CA.
//!
//! INVARIANT: the server that the node joined at stays known, and beside it at most [`MAX_SERVERS`].
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
/// without a quorum, their nodes do not take turns at them.
pub const LONGEST_LEAVE_PAUSE: Duration = Duration::from_secs(160);

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
    known: BTreeSet<ControlUrl>,
    present: ControlUrl,
    changes: u64,
    left: Option<Left>,
    jitter: Jitter,
}

/// A server that answered was left.
#[derive(Debug, Clone, Copy)]
struct Left {
    at: Moment,
    /// None is left before this has passed.
    pause: Duration,
}

impl Servers {
    /// Begins at any one of those that an earlier run knew.
    pub fn new(joined: ControlUrl, held: &HeldServers, seed: u64) -> Self {
        let mut jitter = Jitter::new(seed);
        let known = known(&joined, &held.servers);
        let present = jitter.pick(&known).unwrap_or(&joined).clone();
        Self { joined, known, present, changes: 0, left: None, jitter }
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

    pub fn held(&self) -> HeldServers {
        HeldServers { servers: self.known.iter().map(ToString::to_string).collect() }
    }

    /// A server says which ones there are; whether that is news. One that names none says nothing.
    pub fn told(&mut self, servers: &[String]) -> bool {
        if servers.is_empty() {
            return false;
        }
        let known = known(&self.joined, servers);
        if known == self.known {
            return false;
        }
        let before = std::mem::replace(&mut self.known, known);
        if let Some(drawn) = self.jitter.pick(&self.known).cloned()
            && !(before.contains(&drawn) && self.known.contains(&self.present))
        {
            self.go_to(drawn);
        }
        true
    }

    /// The last of `tried` did not answer this call: whom the call asks next, if anybody.
    pub fn failed(&mut self, tried: &[ControlUrl]) -> Option<ControlUrl> {
        // Another call may have been here before.
        if tried.last() == Some(&self.present) {
            self.go_elsewhere(tried);
        }
        let goes_on = tried.len() < MAX_TURNS && !tried.contains(&self.present);
        goes_on.then(|| self.present.clone())
    }

    /// The present server answers, and another one may know more. Whether there is one.
    pub fn leave(&mut self, now: Moment) -> bool {
        let pause = match self.left {
            Some(Left { at, pause }) if now.since(at) < pause => return false,
            Some(Left { at, pause }) if now.since(at) < 2 * pause => {
                (2 * pause).min(LONGEST_LEAVE_PAUSE)
            }
            _ => LEAVE_PAUSE,
        };
        if self.count() == 1 {
            return false;
        }
        let present = self.present.clone();
        self.go_elsewhere(&[present]);
        self.left = Some(Left { at: now, pause });
        true
    }

    /// To one that was not tried, or else to any other one.
    fn go_elsewhere(&mut self, tried: &[ControlUrl]) {
        let others = |without: &[ControlUrl]| -> BTreeSet<ControlUrl> {
            self.known.iter().filter(|server| !without.contains(server)).cloned().collect()
        };
        let mut there = others(tried);
        if there.is_empty() {
            there = others(std::slice::from_ref(&self.present));
        }
        if let Some(next) = self.jitter.pick(&there).cloned() {
            self.go_to(next);
        }
    }

    fn go_to(&mut self, server: ControlUrl) {
        if self.present != server {
            self.present = server;
            self.changes += 1;
        }
    }
}

/// What is written in another form than this release knows is left out.
fn known(joined: &ControlUrl, servers: &[String]) -> BTreeSet<ControlUrl> {
    let told = servers.iter().filter_map(|text| text.parse().ok());
    let mut known = BTreeSet::from([joined.clone()]);
    for server in told {
        // The one that it joined at may be among them.
        if known.len() <= MAX_SERVERS || known.contains(&server) {
            known.insert(server);
        }
    }
    known
}

#[cfg(test)]
mod tests;
