//! Who may use the bus, when the bus is NATS.

use std::{future::Future, sync::Arc};

use rap_bus::{
    AccountUpdateError, NatsAuthority, NatsOptions, nats_authority::Revocations, update_account,
};
use rap_proto::{NodeId, Timestamp, wire::node_api::BusCredentials};

/// Mints the bus tokens of nodes, and voids them.
#[derive(Clone)]
pub(crate) struct BusIssuer {
    authority: Arc<NatsAuthority>,
    /// As the control plane reaches them.
    servers: Vec<String>,
    /// As nodes reach them.
    advertised: Vec<String>,
}

impl BusIssuer {
    pub(crate) fn new(
        authority: Arc<NatsAuthority>,
        servers: Vec<String>,
        advertised: Vec<String>,
    ) -> Self {
        Self { authority, servers, advertised }
    }

    /// `None` when the node's bus key is not one: it then works without the bus, by polling.
    pub(crate) fn issue(
        &self,
        node: NodeId,
        bus_key: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Option<BusCredentials> {
        let jwt = self.authority.node_jwt(node, bus_key, now, expires_at).ok()?;
        Some(BusCredentials { servers: self.advertised.clone(), jwt })
    }

    pub(crate) fn tell_revoked(
        &self,
        revoked: &Revocations,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), AccountUpdateError>> + 'static {
        let options = NatsOptions {
            servers: self.servers.clone(),
            credentials: self.authority.system_credentials(now),
            tls: None,
        };
        update_account(options, self.authority.account_jwt(revoked, now))
    }
}
