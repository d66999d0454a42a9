use std::{net::SocketAddr, time::Duration};

use rap_proto::{
    BitRate, LaneSet, OrganizationId, Timestamp, lane_set::NoLane, wire::node_api::MAX_ADDRESSES,
};

use super::{
    AddressesChanged, CERTIFICATE_MS, CapabilitiesReported, Certificate, CertificateIssued,
    DrainingEnded, DrainingStarted, Node, NodeApproved, NodeBandwidthCapped, NodeCommand,
    NodeEvent, NodePlaced, NodeRejected, NodeRejection, NodeRequested, NodeRevoked, Offer,
    PoolsAssigned, RENEWAL_RETRY_MS, RevocationReason, RolesAssigned, ScopeFault, Standing,
    WitnessKeyRecorded,
    scope::{check_pools, checked_roles},
};
use crate::{Aggregate, aggregate::is_plain_text};

type Decision = Result<Vec<NodeEvent>, NodeRejection>;

impl Aggregate for Node {
    const CATEGORY: &'static str = "node";
    type Command = NodeCommand;
    type Event = NodeEvent;
    type Rejection = NodeRejection;

    fn decide(&self, command: NodeCommand, now: Timestamp) -> Decision {
        match command {
            NodeCommand::Request {
                name,
                key,
                addresses,
                capabilities,
                bus_key,
                agent_version,
                join_token,
                offer,
            } => {
                let offer = offer.checked()?;
                self.request(NodeRequested {
                    name,
                    key,
                    addresses,
                    capabilities,
                    bus_key,
                    agent_version,
                    join_token,
                    offer,
                })
            }
            NodeCommand::Approve => self.approve(),
            NodeCommand::Reject { reason } => self.reject(reason),
            NodeCommand::Revoke { note } => self.revoke(note),
            NodeCommand::IssueCertificate { serial, expires_at } => {
                self.issue_certificate(serial, expires_at, now)
            }
            NodeCommand::RenewCertificate { renewal, serial, expires_at } => {
                self.renew_certificate(renewal, serial, expires_at, now)
            }
            assignment => {
                self.require_approved()?;
                self.assign(assignment)
            }
        }
    }

    fn evolve(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::Requested(requested) => {
                self.standing = Standing::Pending;
                self.name = Some(requested.name.clone());
                self.key = Some(requested.key);
                self.offer = Some(requested.offer.clone());
                self.addresses.clone_from(&requested.addresses);
                self.capabilities.clone_from(&requested.capabilities);
                self.agent_version.clone_from(&requested.agent_version);
            }
            NodeEvent::Approved(_) => self.standing = Standing::Approved,
            NodeEvent::Rejected(_) => self.standing = Standing::Rejected,
            NodeEvent::CertificateIssued(issued) => {
                let CertificateIssued { renewal, issued_at, expires_at, .. } = *issued;
                self.certificate = Some(Certificate { renewal, issued_at, expires_at });
            }
            NodeEvent::RolesAssigned(assigned) => self.roles.clone_from(&assigned.roles),
            NodeEvent::PoolsAssigned(assigned) => self.pools.clone_from(&assigned.pools),
            NodeEvent::CapabilitiesReported(reported) => {
                self.capabilities.clone_from(&reported.capabilities);
                self.agent_version.clone_from(&reported.agent_version);
            }
            NodeEvent::AddressesChanged(changed) => self.addresses.clone_from(&changed.addresses),
            NodeEvent::DrainingStarted(_) => self.draining = true,
            NodeEvent::DrainingEnded(_) => self.draining = false,
            NodeEvent::Revoked(_) => self.standing = Standing::Revoked,
            NodeEvent::WitnessKeyRecorded(recorded) => self.witness_key = Some(recorded.key),
            NodeEvent::BandwidthCapped(capped) => self.bandwidth_cap = capped.cap,
            NodeEvent::Placed(placed) => {
                self.region.clone_from(&placed.region);
                self.preference = placed.preference;
                self.relayed_lanes = placed.relayed_lanes;
            }
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.offer.as_ref().and_then(|offer| offer.organization)
    }
}

impl Node {
    fn request(&self, requested: NodeRequested) -> Decision {
        if self.standing != Standing::Absent {
            return Err(NodeRejection::AlreadyExists);
        }
        check_addresses(&requested.addresses)?;
        check_text(&requested.bus_key)?;
        check_text(&requested.agent_version)?;
        let offer = requested.offer.clone();
        let mut events = vec![requested.into()];
        if offer.auto_approve {
            events.extend(approval(&offer, true));
        }
        Ok(events)
    }

    fn approve(&self) -> Decision {
        match (self.standing, &self.offer) {
            (Standing::Pending, Some(offer)) => Ok(approval(offer, false)),
            (Standing::Approved, _) => Ok(Vec::new()),
            (Standing::Rejected, _) => Err(NodeRejection::Rejected),
            (Standing::Revoked, _) => Err(NodeRejection::Revoked),
            (Standing::Absent | Standing::Pending, _) => Err(NodeRejection::NotFound),
        }
    }

    fn reject(&self, reason: String) -> Decision {
        check_text(&reason)?;
        match self.standing {
            Standing::Absent => Err(NodeRejection::NotFound),
            Standing::Pending => Ok(vec![NodeRejected { reason }.into()]),
            Standing::Rejected => Ok(Vec::new()),
            Standing::Approved => Err(NodeRejection::AlreadyApproved),
            Standing::Revoked => Err(NodeRejection::Revoked),
        }
    }

    fn revoke(&self, note: String) -> Decision {
        check_text(&note)?;
        match self.standing {
            Standing::Absent => Err(NodeRejection::NotFound),
            Standing::Rejected => Err(NodeRejection::Rejected),
            Standing::Revoked => Ok(Vec::new()),
            Standing::Pending | Standing::Approved => {
                Ok(vec![revoked(RevocationReason::Operator, note)])
            }
        }
    }

    fn issue_certificate(
        &self,
        serial: [u8; 16],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Decision {
        self.require_approved()?;
        let renewal = match self.certificate {
            None | Some(Certificate { renewal: 1, .. }) => 1,
            // A host that was off for longer than its certificate lived starts again with its key.
            Some(old) if old.expires_at < now => old.renewal.saturating_add(1),
            Some(_) => return Err(NodeRejection::AlreadyEnrolled),
        };
        certificate(renewal, serial, expires_at, now)
    }

    fn renew_certificate(
        &self,
        renewal: u64,
        serial: [u8; 16],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Decision {
        self.require_approved()?;
        let newest = self.certificate.ok_or(NodeRejection::NotEnrolled)?;
        let retried = now.since(newest.issued_at) <= Duration::from_millis(RENEWAL_RETRY_MS);
        if renewal == newest.renewal {
            certificate(renewal.saturating_add(1), serial, expires_at, now)
        } else if renewal.checked_add(1) == Some(newest.renewal) && retried {
            certificate(newest.renewal, serial, expires_at, now)
        } else {
            let note = format!("renewal {} is in use, {renewal} was shown", newest.renewal);
            Ok(vec![revoked(RevocationReason::IdentityCopied, note)])
        }
    }

    /// Everything else that an approved node is told or tells: the new value, unless it is so.
    fn assign(&self, command: NodeCommand) -> Decision {
        let event: Option<NodeEvent> = match command {
            NodeCommand::AssignRoles { roles } => {
                let roles = checked_roles(self.organization(), roles)?;
                (roles != self.roles).then(|| RolesAssigned { roles }.into())
            }
            NodeCommand::AssignPools { pools } => {
                check_pools(&pools)?;
                (pools != self.pools).then(|| PoolsAssigned { pools }.into())
            }
            NodeCommand::ReportCapabilities { capabilities, agent_version } => {
                check_text(&agent_version)?;
                let same = capabilities == self.capabilities && agent_version == self.agent_version;
                (!same).then(|| CapabilitiesReported { capabilities, agent_version }.into())
            }
            NodeCommand::ChangeAddresses { addresses } => {
                check_addresses(&addresses)?;
                (addresses != self.addresses).then(|| AddressesChanged { addresses }.into())
            }
            NodeCommand::StartDraining => (!self.draining).then(|| DrainingStarted {}.into()),
            NodeCommand::EndDraining => self.draining.then(|| DrainingEnded {}.into()),
            NodeCommand::RecordWitnessKey { key } => match self.witness_key {
                None => Some(WitnessKeyRecorded { key }.into()),
                Some(recorded) if recorded == key => None,
                Some(_) => return Err(NodeRejection::OtherWitnessKey),
            },
            NodeCommand::CapBandwidth { cap } => {
                let sound = |rate: BitRate| BitRate::new(rate.bits_per_second()).is_some();
                if !cap.is_none_or(sound) {
                    return Err(NodeRejection::BandwidthOutOfRange);
                }
                (cap != self.bandwidth_cap).then(|| NodeBandwidthCapped { cap }.into())
            }
            NodeCommand::Place { region, preference, relayed_lanes } => {
                let relayed_lanes = match relayed_lanes {
                    Some(lanes) => {
                        LaneSet::try_from(lanes).map_err(|NoLane| NodeRejection::NoLaneRelayed)?
                    }
                    None => self.relayed_lanes,
                };
                let same = (&region, preference, relayed_lanes)
                    == (&self.region, self.preference, self.relayed_lanes);
                (!same).then(|| NodePlaced { region, preference, relayed_lanes }.into())
            }
            NodeCommand::Request { .. }
            | NodeCommand::Approve
            | NodeCommand::Reject { .. }
            | NodeCommand::Revoke { .. }
            | NodeCommand::IssueCertificate { .. }
            | NodeCommand::RenewCertificate { .. } => unreachable!("decided by its own function"),
        };
        Ok(event.into_iter().collect())
    }

    fn require_approved(&self) -> Result<(), NodeRejection> {
        match self.standing {
            Standing::Absent => Err(NodeRejection::NotFound),
            Standing::Pending => Err(NodeRejection::NotApproved),
            Standing::Approved => Ok(()),
            Standing::Rejected => Err(NodeRejection::Rejected),
            Standing::Revoked => Err(NodeRejection::Revoked),
        }
    }
}

fn approval(offer: &Offer, automatic: bool) -> Vec<NodeEvent> {
    let mut events = vec![NodeApproved { automatic }.into()];
    if !offer.roles.is_empty() {
        events.push(RolesAssigned { roles: offer.roles.clone() }.into());
    }
    if !offer.pools.is_empty() {
        events.push(PoolsAssigned { pools: offer.pools.clone() }.into());
    }
    events
}

fn certificate(renewal: u64, serial: [u8; 16], expires_at: Timestamp, now: Timestamp) -> Decision {
    if expires_at <= now || expires_at > now + Duration::from_millis(CERTIFICATE_MS) {
        return Err(NodeRejection::LifetimeOutOfRange);
    }
    Ok(vec![CertificateIssued { renewal, serial, issued_at: now, expires_at }.into()])
}

fn revoked(reason: RevocationReason, note: String) -> NodeEvent {
    NodeRevoked { reason, note }.into()
}

fn check_addresses(addresses: &[SocketAddr]) -> Result<(), NodeRejection> {
    if addresses.len() > MAX_ADDRESSES { Err(NodeRejection::TooManyAddresses) } else { Ok(()) }
}

fn check_text(text: &str) -> Result<(), NodeRejection> {
    if is_plain_text(text) { Ok(()) } else { Err(NodeRejection::TextNotPlain) }
}

impl From<ScopeFault> for NodeRejection {
    fn from(fault: ScopeFault) -> Self {
        match fault {
            ScopeFault::TooLarge => Self::ScopeTooLarge,
            ScopeFault::ForeignOrganization => Self::ForeignOrganization,
        }
    }
}
