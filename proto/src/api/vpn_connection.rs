use super::{Reference, bodies};
use crate::{LeaseClass, Name, NodeId, OrganizationId, VpnConnectionId};

bodies! {
    /// `POST /organizations/{organization}/vpn-connections`.
    pub struct NewVpnConnection {
        pub name: Name,
        pub class: LeaseClass,
        /// Which of the organization's nodes may carry it; none for any.
        #[serde(default)]
        pub nodes: Vec<Reference>,
        /// Whether it is wanted from the start.
        #[serde(default)]
        pub enabled: bool,
    }

    /// `PUT /organizations/{organization}/vpn-connections/{connection}/nodes`.
    pub struct SetVpnConnectionNodes {
        pub nodes: Vec<Reference>,
    }

    /// Something that one node at a time carries.
    pub struct VpnConnection {
        pub id: VpnConnectionId,
        pub organization: OrganizationId,
        pub name: Name,
        pub class: LeaseClass,
        pub nodes: Vec<NodeId>,
        pub enabled: bool,
        /// Whether a node holds its lease.
        pub held: bool,
        /// Which, if it is the organization's own.
        pub node: Option<NodeId>,
        /// The holder was asked to hand over.
        pub draining: bool,
        /// Why it is carried, or not, in a word; none where this replica does not know yet.
        pub reason: Option<String>,
        /// How often its lease was granted, at least.
        pub generation: u64,
        pub revision: u64,
    }
}
