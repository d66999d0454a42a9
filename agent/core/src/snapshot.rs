//! Which snapshot this node acts on.
//!
//! Inputs: what was found on disk, bundles that control sent, the outcome of disk writes, newer
//! control keys. Effects: at most one [`Effect::Persist`] in flight, then [`Effect::Apply`].
//! The timer is the end of the snapshot's life.
//!
//! INVARIANT: what is applied was verified, and its floor was durable before.
//! INVARIANT: (epoch, version) of what is applied never falls.

mod check;
mod keep;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rap_proto::{
    ClusterId, Digest, Moment, NodeId, PublicKey, Timestamp,
    bandwidth::Bandwidth,
    beat::FIRST_AUTHORITY_EPOCH,
    mesh::Mesh,
    observation::SnapshotRefusal,
    paths::Paths,
    snapshot::{
        Assignment, Bundle, Connections, Manifest, Peers, Places, Resources, StalePolicy, Trust,
    },
};
use serde::{Deserialize, Serialize};

use crate::{Machine, record::Record};

pub use check::Freshness;
pub use keep::{Kept, LoadError, Plan, forget_unused, load, persist};

/// The lowest snapshot that this node still accepts, and which one that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    pub authority_epoch: u64,
    pub version: u64,
    /// The hash of the manifest's bytes; zeroes before the first snapshot.
    pub digest: Digest,
}

impl Floor {
    /// The floor of a node that has seen no snapshot yet.
    pub const fn nothing() -> Self {
        Self { authority_epoch: 0, version: 0, digest: Digest::from_bytes([0; 32]) }
    }
}

impl Record for Floor {
    const KIND: u8 = 4;
    const MAX_BYTES: usize = 1024;
}

/// A verified snapshot with all that this node understands of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub manifest: Manifest,
    /// The hash of the manifest's bytes.
    pub digest: Digest,
    pub assignment: Assignment,
    pub trust: Trust,
    pub peers: Peers,
    pub resources: Resources,
    pub connections: Connections,
    pub bandwidth: Bandwidth,
    pub places: Places,
    pub paths: Paths,
    pub mesh: Mesh,
}

impl Snapshot {
    pub fn denies(&self, node: NodeId) -> bool {
        self.trust.denied_nodes.contains(&node)
    }
}

/// What a node needs to know for believing a snapshot.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cluster: ClusterId,
    pub node: NodeId,
    /// The keys that its credentials name.
    pub control_keys: Vec<PublicKey>,
}

#[derive(Debug)]
pub enum Input {
    /// What [`load`] found, once and before everything else.
    Restore { kept: Kept, at: Timestamp },
    /// From control, over any channel: nothing of it is believed yet.
    Offered { bundle: Bundle, at: Timestamp },
    /// The last [`Effect::Persist`] is durable.
    Persisted { at: Timestamp },
    /// The last [`Effect::Persist`] failed; what is applied stays.
    PersistFailed,
    /// Newer credentials name these control keys.
    ControlKeys(Vec<PublicKey>),
    /// The log that control shows was rewritten: nothing of it is taken any more, and what is
    /// applied gives no new authority.
    LogRefused { at: Timestamp },
}

#[derive(Debug)]
pub enum Effect {
    /// Write this, durably, and answer with [`Input::Persisted`].
    Persist(Box<Plan>),
    Apply {
        snapshot: Arc<Snapshot>,
        freshness: Freshness,
    },
    /// To be observed.
    Refused {
        version: u64,
        code: SnapshotRefusal,
    },
    /// The applied snapshot's life ended.
    Expired(StalePolicy),
    /// The applied snapshot names this node as denied.
    Denied,
}

pub struct SnapshotStore {
    identity: Identity,
    floor: Floor,
    active: Option<Active>,
    candidate: Option<Active>,
    expires: Option<Moment>,
    /// A poll brings a wrong snapshot again and again; it is reported once.
    last_refused: Option<(u64, SnapshotRefusal)>,
    suspended: bool,
    effects: VecDeque<Effect>,
}

struct Active {
    snapshot: Arc<Snapshot>,
    /// By hash, every section of the manifest: also those that this version does not know.
    sections: BTreeMap<Digest, Vec<u8>>,
}

impl SnapshotStore {
    pub fn new(identity: Identity, floor: Floor) -> Self {
        Self {
            identity,
            floor,
            active: None,
            candidate: None,
            expires: None,
            last_refused: None,
            suspended: false,
            effects: VecDeque::new(),
        }
    }

    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// The authority epoch of what this node acts on; the first, before its first snapshot.
    pub fn authority_epoch(&self) -> u64 {
        self.floor.authority_epoch.max(FIRST_AUTHORITY_EPOCH)
    }

    pub fn active(&self) -> Option<&Arc<Snapshot>> {
        self.active.as_ref().map(|active| &active.snapshot)
    }

    /// The version in use, zero for none, and the sections that need not be sent.
    pub fn holding(&self) -> (u64, BTreeSet<Digest>) {
        match &self.active {
            Some(active) => {
                (active.snapshot.manifest.version, active.sections.keys().copied().collect())
            }
            None => (0, BTreeSet::new()),
        }
    }

    /// The keys that may sign for this node's cluster: those of the newest snapshot and, until
    /// there is one, those of the credentials.
    pub fn control_keys(&self) -> Vec<PublicKey> {
        match self.active() {
            Some(snapshot) => snapshot.trust.control_keys.clone(),
            None => self.identity.control_keys.clone(),
        }
    }

    fn restore(&mut self, now: Moment, kept: Kept, at: Timestamp) {
        let bundle = Bundle { manifest: kept.manifest, sections: Vec::new() };
        let known = self.known(Freshness::Any);
        let keys = self.identity.control_keys.clone();
        match check::check(&bundle, &kept.sections, &known, &keys, at) {
            Ok(found) => {
                self.floor = floor_of(&found.snapshot);
                self.activate(now, found, at);
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn offer(&mut self, bundle: &Bundle, at: Timestamp) {
        // One write at a time; control sends again what is still newer afterwards.
        if self.candidate.is_some() {
            return;
        }
        if self.suspended {
            let code = SnapshotRefusal::LogRefused;
            return self.refuse(check::Refused { version: 0, code });
        }
        let empty = BTreeMap::new();
        let held = self.active.as_ref().map_or(&empty, |active| &active.sections);
        let known = self.known(Freshness::Fresh);
        match check::check(bundle, held, &known, &self.control_keys(), at) {
            Ok(found) if found.snapshot.digest == self.floor.digest && self.active.is_some() => {}
            Ok(found) => {
                let plan = Plan::new(bundle, &found, held, floor_of(&found.snapshot));
                self.candidate = Some(found.into());
                self.effects.push_back(Effect::Persist(Box::new(plan)));
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// As if the snapshot's life had ended: what is running goes on as its stale policy says.
    fn suspend(&mut self, at: Timestamp) {
        if std::mem::replace(&mut self.suspended, true) {
            return;
        }
        self.candidate = None;
        self.end_life(at);
    }

    fn end_life(&mut self, at: Timestamp) {
        let Some(active) = &mut self.active else { return };
        let snapshot = Arc::make_mut(&mut active.snapshot);
        snapshot.manifest.expires_at = snapshot.manifest.expires_at.min(at);
        let policy = snapshot.manifest.stale_policy;
        let snapshot = active.snapshot.clone();
        self.expires = None;
        self.effects.push_back(Effect::Apply { snapshot, freshness: Freshness::Any });
        self.effects.push_back(Effect::Expired(policy));
    }

    fn known(&self, freshness: Freshness) -> check::Known {
        check::Known {
            cluster: self.identity.cluster,
            node: self.identity.node,
            floor: self.floor,
            freshness,
        }
    }

    fn refuse(&mut self, refusal: check::Refused) {
        let check::Refused { version, code } = refusal;
        if self.last_refused.replace((version, code)) != Some((version, code)) {
            self.effects.push_back(Effect::Refused { version, code });
        }
    }

    fn activate(&mut self, now: Moment, found: impl Into<Active>, at: Timestamp) {
        let active: Active = found.into();
        let snapshot = active.snapshot.clone();
        let left = snapshot.manifest.expires_at.since(at);
        let freshness = if left == Duration::ZERO { Freshness::Any } else { Freshness::Fresh };
        self.expires = (left > Duration::ZERO).then(|| now + left);
        self.active = Some(active);
        self.last_refused = None;
        let denied = snapshot.denies(self.identity.node);
        let policy = snapshot.manifest.stale_policy;
        self.effects.push_back(Effect::Apply { snapshot, freshness });
        if freshness == Freshness::Any {
            self.effects.push_back(Effect::Expired(policy));
        }
        if denied {
            self.effects.push_back(Effect::Denied);
        }
        if self.suspended {
            self.end_life(at);
        }
    }
}

impl Machine for SnapshotStore {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Restore { kept, at } => self.restore(now, kept, at),
            Input::Offered { bundle, at } => self.offer(&bundle, at),
            Input::Persisted { at } => {
                if let Some(candidate) = self.candidate.take() {
                    self.floor = floor_of(&candidate.snapshot);
                    self.activate(now, candidate, at);
                }
            }
            Input::PersistFailed => self.candidate = None,
            Input::ControlKeys(keys) => self.identity.control_keys = keys,
            Input::LogRefused { at } => self.suspend(at),
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.expires.is_some_and(|at| now >= at) {
            self.expires = None;
            if let Some(snapshot) = self.active() {
                let policy = snapshot.manifest.stale_policy;
                self.effects.push_back(Effect::Expired(policy));
            }
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.expires
    }
}

fn floor_of(snapshot: &Snapshot) -> Floor {
    Floor {
        authority_epoch: snapshot.manifest.authority_epoch,
        version: snapshot.manifest.version,
        digest: snapshot.digest,
    }
}

impl From<check::Found> for Active {
    fn from(found: check::Found) -> Self {
        Self { snapshot: Arc::new(found.snapshot), sections: found.sections }
    }
}
