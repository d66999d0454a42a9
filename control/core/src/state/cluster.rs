use rap_events::{Envelope, Sensitive, cluster::ClusterEvent};
use rap_proto::{
    ClusterId, Digest, PublicKey, Timestamp, UserId, carriers::CarrierRules, mesh::MeshRule,
    paths::PathRule, snapshot::StalePolicy,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The cluster itself: its authority and how far its set-up got.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// `None` before the control plane was started for the first time.
    pub id: Option<ClusterId>,
    /// The CA certificate, DER.
    pub ca_certificate: ByteBuf,
    /// The keys that sign snapshots and access tokens.
    pub control_keys: Vec<PublicKey>,
    /// The digest of the setup code; `None` before the bootstrap and after the set-up.
    pub setup_code: Option<Sensitive<Digest>>,
    /// Who completed the set-up.
    pub owner: Option<UserId>,
    /// What the platform says of the carriers of everybody's flows.
    pub carriers: CarrierRules,
    /// What it says of direct paths.
    pub paths: PathRule,
    /// What it says of peers and weights.
    pub mesh: MeshRule,
    /// What becomes of sessions at nodes that are cut off.
    pub stale: StalePolicy,
    /// When every node's snapshot was last renewed, or when the cluster began.
    pub renewed_at: Timestamp,
    /// The position of that event.
    pub renewed: u64,
    /// The revision of its stream.
    pub revision: u64,
}

impl Cluster {
    /// Whether somebody owns the platform: before that nobody can log in.
    pub fn is_set_up(&self) -> bool {
        self.owner.is_some()
    }

    pub(super) fn fold(&mut self, event: &ClusterEvent, envelope: &Envelope) {
        self.revision = envelope.revision;
        match event {
            ClusterEvent::Bootstrapped(event) => {
                self.id = Some(event.cluster);
                self.ca_certificate = event.ca_certificate.clone();
                self.control_keys = event.control_keys.clone();
                self.setup_code = Some(event.setup_code.clone());
                self.renewed_at = envelope.at;
                self.renewed = envelope.position;
            }
            ClusterEvent::SetupCodeReplaced(event) => {
                self.setup_code = Some(event.setup_code.clone());
            }
            ClusterEvent::SetupCompleted(event) => {
                self.setup_code = None;
                self.owner = Some(event.owner);
            }
            ClusterEvent::ControlKeyAdded(event) => self.control_keys.push(event.key),
            ClusterEvent::SnapshotsRenewed(_) => {
                self.renewed_at = envelope.at;
                self.renewed = envelope.position;
            }
            ClusterEvent::CarriersRuled(event) => self.carriers = event.carriers,
            ClusterEvent::PathsRuled(event) => self.paths = event.rule,
            ClusterEvent::MeshRuled(event) => self.mesh = event.rule.clone(),
            ClusterEvent::StaleRuled(event) => self.stale = event.policy,
        }
    }
}
