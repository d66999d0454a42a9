//! An egress reaches a resource only for whom its own snapshot permits it, with a token that
//! control issued, for the key it was issued to.

use std::collections::{BTreeMap, BTreeSet};

use rap_agent_core::snapshot::Snapshot;
use rap_proto::{
    Digest, NodeId, SessionId, Timestamp,
    token::{AccessClaims, CLOCK_SKEW_MS, Proof},
};

use super::Violation;

const NAME: &str = "admission";

/// An open flow, as the world sees it.
#[derive(Debug, Clone)]
pub struct Flow {
    pub egress: NodeId,
    pub entry: NodeId,
    pub token: Vec<u8>,
    pub proof: Proof,
    /// By the egress' clock.
    pub at: Timestamp,
}

#[derive(Debug, Default)]
pub struct Admission {
    /// What control issued, by the hash of the token.
    issued: BTreeMap<Digest, AccessClaims>,
    open: BTreeSet<(NodeId, SessionId)>,
    admitted: u64,
}

impl Admission {
    pub fn issued(&mut self, token: &[u8], claims: AccessClaims) {
        self.issued.insert(Digest::of(token), claims);
    }

    /// How many flows were admitted so far: a run that admits none proves little.
    pub fn admitted(&self) -> u64 {
        self.admitted
    }

    /// An egress let somebody through to the resource.
    pub fn flow(&mut self, flow: &Flow, snapshot: &Snapshot) -> Result<(), Violation> {
        let violated =
            |what: &str| Err(Violation::new(NAME, format!("{} admitted {what}", flow.egress)));
        let Some(claims) = self.issued.get(&Digest::of(&flow.token)) else {
            return violated("a token that control did not issue");
        };
        if !flow.proof.holds(&flow.token, &claims.client_key) {
            return violated("somebody without the token's key");
        }
        let latest = claims.expires_at.unix_millis() + CLOCK_SKEW_MS.cast_signed();
        if flow.at.unix_millis() > latest {
            return violated("an expired token");
        }
        if !claims.egresses.contains_key(&flow.egress) || !claims.entries.contains(&flow.entry) {
            return violated("a token for other nodes");
        }
        if snapshot.manifest.version < claims.egresses[&flow.egress] {
            return violated("a token that is newer than its snapshot");
        }
        if snapshot.trust.denied_sessions.contains(&claims.session) {
            return violated("a session that was terminated");
        }
        if !permits(snapshot, claims) {
            return violated("a user whom its snapshot does not permit");
        }
        self.open.insert((flow.egress, claims.session));
        self.admitted += 1;
        Ok(())
    }

    pub fn closed(&mut self, egress: NodeId, session: SessionId) {
        self.open.remove(&(egress, session));
    }

    /// The node's agent ended, and all its flows with it.
    pub fn node_ended(&mut self, egress: NodeId) {
        self.open.retain(|(node, _)| *node != egress);
    }

    /// A newer snapshot was applied: what it does not permit is closed by now.
    pub fn after_apply(&self, egress: NodeId, snapshot: &Snapshot) -> Result<(), Violation> {
        let sessions = self.open.iter().filter(|(node, _)| *node == egress);
        for (_, session) in sessions {
            let claims = self.issued.values().find(|claims| claims.session == *session);
            let denied = snapshot.trust.denied_sessions.contains(session);
            if denied || !claims.is_some_and(|claims| permits(snapshot, claims)) {
                let detail = format!("{egress} keeps session {session} open without permission");
                return Err(Violation::new(NAME, detail));
            }
        }
        Ok(())
    }
}

fn permits(snapshot: &Snapshot, claims: &AccessClaims) -> bool {
    snapshot.resources.resources.iter().any(|resource| {
        resource.id == claims.resource
            && resource.organization == claims.organization
            && resource.users.contains(&claims.user)
    })
}
