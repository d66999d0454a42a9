use rap_events::{
    DomainEvent, Envelope, cluster::ClusterEvent, node::NodeEvent, node_report::NodeReportEvent,
    session::SessionEvent, user::UserEvent,
};
use rap_proto::{NodeId, UserId};

use super::{Corrupt, State};
use crate::snapshot::{changed, touched};

impl State {
    pub(super) fn fold_next(&mut self, envelope: &Envelope) -> Result<(), Corrupt> {
        if envelope.position != self.position + 1 {
            return Err(Corrupt::Gap { last: self.position, next: envelope.position });
        }
        let event = DomainEvent::from_envelope(envelope)
            .map_err(|error| Corrupt::Event { position: envelope.position, error })?;
        // Who saw the thing before, and who sees it now: both learn of the change.
        let before = touched(self, &event, envelope);
        self.apply(&event, envelope)?;
        self.authority.notice(&event, envelope.position);
        if let Some((node, sequence)) = observed(&event, envelope) {
            self.nodes.observe(node, sequence);
        }
        let nodes = changed(&event, &before, &touched(self, &event, envelope));
        self.nodes.touch(&nodes, envelope, |node| decides_otherwise(&event, envelope, node));
        self.position = envelope.position;
        self.at = envelope.at;
        Ok(())
    }

    fn apply(&mut self, event: &DomainEvent, envelope: &Envelope) -> Result<(), Corrupt> {
        match event {
            DomainEvent::Cluster(event) => {
                self.cluster.fold(event, envelope);
                if matches!(event, ClusterEvent::SnapshotsRenewed(_)) {
                    self.nodes.forget_gone(envelope.at);
                    self.sessions.forget_denials(envelope.at);
                }
                Ok(())
            }
            DomainEvent::Organization(event) => self.organizations.fold(event, envelope),
            DomainEvent::User(event) => {
                if matches!(event, UserEvent::Erased(_)) {
                    let erased = UserId::from_uuid(envelope.stream.id);
                    self.logins.erase(erased);
                    self.api_tokens.erase(erased);
                }
                self.users.fold(event, envelope)
            }
            DomainEvent::Membership(event) => self.users.fold_membership(event, envelope),
            DomainEvent::Login(event) => self.logins.fold(event, envelope),
            DomainEvent::ApiToken(event) => self.api_tokens.fold(event, envelope),
            DomainEvent::JoinToken(event) => self.join_tokens.fold(event, envelope),
            DomainEvent::Node(event) => self.nodes.fold(event, envelope),
            DomainEvent::Pool(event) => self.pools.fold(event, envelope),
            DomainEvent::Resource(event) => self.resources.fold(event, envelope),
            DomainEvent::Policy(event) => self.policies.fold(event, envelope),
            DomainEvent::Session(event) => self.sessions.fold(event, envelope),
            DomainEvent::VpnConnection(event) => self.vpn_connections.fold(event, envelope),
            DomainEvent::Leadership(event) => self.leaderships.fold(event, envelope),
            DomainEvent::Authority(event) => {
                self.authority.fold(event, envelope);
                Ok(())
            }
            DomainEvent::NodeReport(NodeReportEvent::AuthorityChanged(event)) => {
                self.nodes.lapsed(NodeId::from_uuid(envelope.stream.id), event);
                Ok(())
            }
            // The others change nothing but how far they were recorded; the audit log shows them.
            DomainEvent::NodeReport(_) | DomainEvent::Guessing(_) => Ok(()),
        }
    }
}

/// Whether what a node may do, and for whom, can be another after the event. Others are merely told
/// where a node is, and that it drains: no token has to wait until they know.
fn decides_otherwise(event: &DomainEvent, envelope: &Envelope, node: NodeId) -> bool {
    match event {
        DomainEvent::Cluster(ClusterEvent::SnapshotsRenewed(_)) => false,
        DomainEvent::Node(
            NodeEvent::DrainingStarted(_) | NodeEvent::DrainingEnded(_) | NodeEvent::Placed(_),
        ) => node.uuid() == envelope.stream.id,
        _ => true,
    }
}

/// The node that observed what an event tells, and the place in its spool.
fn observed(event: &DomainEvent, envelope: &Envelope) -> Option<(NodeId, u64)> {
    let seen = match event {
        DomainEvent::NodeReport(event) => {
            let sequence = match event {
                NodeReportEvent::AccessRefused(event) => event.sequence,
                NodeReportEvent::SnapshotRefused(event) => event.sequence,
                NodeReportEvent::LogRefused(event) => event.sequence,
                NodeReportEvent::WorkerExited(event) => event.sequence,
                NodeReportEvent::PathChanged(event) => event.sequence,
                NodeReportEvent::AuthorityChanged(event) => event.sequence,
            };
            return Some((NodeId::from_uuid(envelope.stream.id), sequence));
        }
        DomainEvent::Session(SessionEvent::Started(event)) => Some(event.seen),
        DomainEvent::Session(SessionEvent::AccessRefused(event)) => Some(event.seen),
        DomainEvent::Session(SessionEvent::Ended(event)) => event.seen,
        _ => None,
    };
    seen.map(|seen| (seen.node, seen.sequence))
}
