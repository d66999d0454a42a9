use rap_proto::{
    ClusterId, Digest, PublicKey, UserId,
    carriers::CarrierRules,
    mesh::{MeshFault, MeshRule},
    paths::PathRule,
    snapshot::StalePolicy,
};

use crate::Sensitive;

/// The most keys that sign for one cluster.
pub const MAX_CONTROL_KEYS: usize = 8;
/// The largest CA certificate, in bytes of DER.
pub const MAX_CERTIFICATE_BYTES: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterCommand {
    Bootstrap {
        cluster: ClusterId,
        ca_certificate: Vec<u8>,
        control_keys: Vec<PublicKey>,
        setup_code: Sensitive<Digest>,
    },
    ReplaceSetupCode {
        setup_code: Sensitive<Digest>,
    },
    /// `presented` is the digest of the code that the new owner typed.
    CompleteSetup {
        presented: Sensitive<Digest>,
        owner: UserId,
    },
    AddControlKey {
        key: PublicKey,
    },
    RenewSnapshots,
    /// What everybody's flows run on, in place of all that was ruled before.
    RuleCarriers {
        carriers: CarrierRules,
    },
    /// Whether everybody's lanes may take direct paths, in place of what was ruled before.
    RulePaths {
        rule: PathRule,
    },
    /// How everybody's nodes keep peers and weigh paths, in place of what was ruled before.
    RuleMesh {
        rule: MeshRule,
    },
    /// What becomes of sessions at nodes that are cut off from control.
    RuleStale {
        policy: StalePolicy,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClusterRejection {
    #[error("the cluster is bootstrapped already")]
    AlreadyBootstrapped,
    #[error("the cluster is not bootstrapped")]
    NotBootstrapped,
    #[error("the setup was completed before")]
    SetupAlreadyCompleted,
    #[error("not the setup code of this installation")]
    WrongSetupCode,
    #[error("a cluster has 1 to {MAX_CONTROL_KEYS} control keys")]
    ControlKeyCount,
    #[error("a CA certificate has 1 to {MAX_CERTIFICATE_BYTES} bytes")]
    CertificateSize,
    #[error("{0}")]
    MeshRuleUnsound(MeshFault),
}
