use rap_proto::{
    ClusterId, Digest, PublicKey, UserId, carriers::CarrierRules, mesh::MeshRule, paths::PathRule,
    snapshot::StalePolicy,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{Sensitive, aggregate::events};

events! {
    /// What happened to the cluster.
    ClusterEvent:
    Bootstrapped(ClusterBootstrapped) = "cluster.bootstrapped" / 1;
    SetupCodeReplaced(SetupCodeReplaced) = "cluster.setup_code_replaced" / 1;
    SetupCompleted(SetupCompleted) = "cluster.setup_completed" / 1;
    ControlKeyAdded(ControlKeyAdded) = "cluster.control_key_added" / 1;
    SnapshotsRenewed(SnapshotsRenewed) = "cluster.snapshots_renewed" / 1;
    CarriersRuled(ClusterCarriersRuled) = "cluster.carriers_ruled" / 1;
    PathsRuled(PathsRuled) = "cluster.paths_ruled" / 2, from 1 by PathsRuled;
    MeshRuled(MeshRuled) = "cluster.mesh_ruled" / 1;
    StaleRuled(StaleRuled) = "cluster.stale_ruled" / 1;
}

/// The control plane was started for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterBootstrapped {
    pub cluster: ClusterId,
    /// The cluster's CA certificate, DER.
    pub ca_certificate: ByteBuf,
    /// The keys that sign snapshots and access tokens.
    pub control_keys: Vec<PublicKey>,
    /// The digest of the one-time setup code.
    pub setup_code: Sensitive<Digest>,
}

/// A new setup code was printed before anybody used the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupCodeReplaced {
    pub setup_code: Sensitive<Digest>,
}

/// The holder of the setup code became the first platform owner. The code is worthless from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupCompleted {
    pub owner: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlKeyAdded {
    pub key: PublicKey,
}

/// Every node's snapshot is signed anew, so that none grows stale while nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotsRenewed {}

/// What everybody's flows run on, as it is from now; of a lane without a rule, organizations say it,
/// or entries decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterCarriersRuled {
    pub carriers: CarrierRules,
}

/// Whether everybody's lanes may take direct paths from now on, and when, and whether it is recorded when they
/// do. Schema 2 can have `when_better`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathsRuled {
    pub rule: PathRule,
}

/// How many peers everybody's nodes keep near from now on, and what the parts of a score count. Of what is
/// not named, nodes take what their release has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshRuled {
    pub rule: MeshRule,
}

/// What becomes of everybody's sessions from now on at nodes that are cut off from control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaleRuled {
    pub policy: StalePolicy,
}
