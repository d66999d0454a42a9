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
    trust: BusTrust,
}

/// By whom the NATS servers prove themselves.
#[derive(Clone)]
pub(crate) struct BusTrust {
    /// DER, for the nodes; none for the cluster's own CA.
    pub(crate) authorities: Vec<Vec<u8>>,
    pub(crate) tls: rustls::ClientConfig,
}

impl BusIssuer {
    pub(crate) fn new(
        authority: Arc<NatsAuthority>,
        servers: Vec<String>,
        advertised: Vec<String>,
        trust: BusTrust,
    ) -> Self {
        Self { authority, servers, advertised, trust }
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
        let authorities = self.trust.authorities.iter().cloned().map(Into::into).collect();
        Some(BusCredentials { servers: self.advertised.clone(), jwt, authorities })
    }

    pub(crate) fn tell_revoked(
        &self,
        revoked: &Revocations,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), AccountUpdateError>> + 'static {
        let options = NatsOptions {
            servers: self.servers.clone(),
            credentials: self.authority.system_credentials(now),
            tls: Some(self.trust.tls.clone()),
        };
        update_account(options, self.authority.account_jwt(revoked, now))
    }
}
