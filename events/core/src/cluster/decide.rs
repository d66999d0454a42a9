use rap_proto::{OrganizationId, Timestamp};
use serde_bytes::ByteBuf;

use super::{
    Cluster, ClusterBootstrapped, ClusterCarriersRuled, ClusterCommand, ClusterEvent,
    ClusterRejection, ControlKeyAdded, MAX_CERTIFICATE_BYTES, MAX_CONTROL_KEYS, MeshRuled,
    PathsRuled, SetupCodeReplaced, SetupCompleted, SnapshotsRenewed, StaleRuled,
};
use crate::Aggregate;

impl Aggregate for Cluster {
    const CATEGORY: &'static str = "cluster";
    type Command = ClusterCommand;
    type Event = ClusterEvent;
    type Rejection = ClusterRejection;

    fn decide(
        &self,
        command: ClusterCommand,
        _: Timestamp,
    ) -> Result<Vec<ClusterEvent>, ClusterRejection> {
        let bootstraps = matches!(command, ClusterCommand::Bootstrap { .. });
        match (self.id.is_some(), bootstraps) {
            (true, true) => return Err(ClusterRejection::AlreadyBootstrapped),
            (false, false) => return Err(ClusterRejection::NotBootstrapped),
            _ => {}
        }
        let event = match command {
            ClusterCommand::Bootstrap { cluster, ca_certificate, control_keys, setup_code } => {
                if !(1..=MAX_CONTROL_KEYS).contains(&control_keys.len()) {
                    return Err(ClusterRejection::ControlKeyCount);
                }
                if !(1..=MAX_CERTIFICATE_BYTES).contains(&ca_certificate.len()) {
                    return Err(ClusterRejection::CertificateSize);
                }
                let ca_certificate = ByteBuf::from(ca_certificate);
                ClusterBootstrapped { cluster, ca_certificate, control_keys, setup_code }.into()
            }
            ClusterCommand::ReplaceSetupCode { setup_code } => {
                self.require_setup_open()?;
                SetupCodeReplaced { setup_code }.into()
            }
            ClusterCommand::CompleteSetup { presented, owner } => {
                self.require_setup_open()?;
                if self.setup_code.as_ref() != Some(&presented) {
                    return Err(ClusterRejection::WrongSetupCode);
                }
                SetupCompleted { owner }.into()
            }
            ClusterCommand::AddControlKey { key } => {
                if self.control_keys.contains(&key) {
                    return Ok(Vec::new());
                }
                if self.control_keys.len() >= MAX_CONTROL_KEYS {
                    return Err(ClusterRejection::ControlKeyCount);
                }
                ControlKeyAdded { key }.into()
            }
            ClusterCommand::RenewSnapshots => SnapshotsRenewed {}.into(),
            ClusterCommand::RuleCarriers { carriers } if carriers == self.carriers => {
                return Ok(Vec::new());
            }
            ClusterCommand::RuleCarriers { carriers } => ClusterCarriersRuled { carriers }.into(),
            ClusterCommand::RulePaths { rule } if rule == self.paths => return Ok(Vec::new()),
            ClusterCommand::RulePaths { rule } => PathsRuled { rule }.into(),
            ClusterCommand::RuleMesh { rule } => {
                rule.check().map_err(ClusterRejection::MeshRuleUnsound)?;
                if rule == self.mesh {
                    return Ok(Vec::new());
                }
                MeshRuled { rule }.into()
            }
            ClusterCommand::RuleStale { policy } if policy == self.stale => return Ok(Vec::new()),
            ClusterCommand::RuleStale { policy } => StaleRuled { policy }.into(),
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &ClusterEvent) {
        match event {
            ClusterEvent::Bootstrapped(bootstrapped) => {
                self.id = Some(bootstrapped.cluster);
                self.ca_certificate = bootstrapped.ca_certificate.to_vec();
                self.control_keys = bootstrapped.control_keys.clone();
                self.setup_code = Some(bootstrapped.setup_code.clone());
            }
            ClusterEvent::SetupCodeReplaced(replaced) => {
                self.setup_code = Some(replaced.setup_code.clone());
            }
            ClusterEvent::SetupCompleted(completed) => {
                self.owner = Some(completed.owner);
                self.setup_code = None;
            }
            ClusterEvent::ControlKeyAdded(added) => self.control_keys.push(added.key),
            ClusterEvent::SnapshotsRenewed(_) => {}
            ClusterEvent::CarriersRuled(ruled) => self.carriers = ruled.carriers,
            ClusterEvent::PathsRuled(ruled) => self.paths = ruled.rule,
            ClusterEvent::MeshRuled(ruled) => self.mesh = ruled.rule.clone(),
            ClusterEvent::StaleRuled(ruled) => self.stale = ruled.policy,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }
}

impl Cluster {
    fn require_setup_open(&self) -> Result<(), ClusterRejection> {
        match self.owner {
            Some(_) => Err(ClusterRejection::SetupAlreadyCompleted),
            None => Ok(()),
        }
    }
}
