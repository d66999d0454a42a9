use rap_proto::{
    ClusterId, Digest, PublicKey, UserId, carriers::CarrierRules, mesh::MeshRule, paths::PathRule,
    snapshot::StalePolicy,
};

use crate::Sensitive;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    pub id: Option<ClusterId>,
    pub ca_certificate: Vec<u8>,
    pub control_keys: Vec<PublicKey>,
    /// `None` before the bootstrap and after the setup.
    pub setup_code: Option<Sensitive<Digest>>,
    pub owner: Option<UserId>,
    pub carriers: CarrierRules,
    pub paths: PathRule,
    pub mesh: MeshRule,
    pub stale: StalePolicy,
}
