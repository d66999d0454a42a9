//! A session whose connection on QUIC is in doubt, and how it is left for another one.

use quinn::VarInt;
use rap_mesh_core::{
    doubt::{Doubt, LOOK_EVERY},
    ended::LEFT_BEHIND,
};
use tokio::time::sleep;

use super::{
    ConnectError, LaneConnections, in_time, on_tcp,
    session::{Below, ClientSession},
};
use crate::mesh::locked;

impl ClientSession {
    /// Whether both are the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Waits until its connection is in doubt: on QUIC, where nothing comes back. The kernel looks after TCP.
    pub async fn in_doubt(&self) {
        let mut doubt = Doubt::default();
        while !self.datagrams().is_some_and(|(sent, received)| doubt.look(sent, received)) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until more came from the entry on QUIC than so much ([`Self::received`]).
    pub async fn heard(&self, before: Option<u64>) {
        while self.received() == before {
            sleep(LOOK_EVERY).await;
        }
    }

    /// How many datagrams came from the entry on QUIC.
    pub fn received(&self) -> Option<u64> {
        self.datagrams().map(|(_, received)| received)
    }

    /// Another connection of the same session to the same entry, on TCP, with the token that was shown here last:
    /// control need not be reached for it. What is open stays here ([`Self::succeed`]).
    ///
    /// # Errors
    /// `Unreachable` where the entry does not answer on TCP or the session was to be on QUIC alone; `Refused`,
    /// among others once that token has expired.
    pub async fn again_on_tcp(&self) -> Result<Self, ConnectError> {
        let only_quic = || ConnectError::Unreachable("the session is on QUIC alone".to_owned());
        let joining = self.inner.joining.clone().ok_or_else(only_quic)?;
        let connecting = on_tcp(joining.first.clone(), joining.address, &joining.server_name);
        let line = in_time(connecting).await.map_err(ConnectError::Unreachable)?;
        let shown = (locked(&self.inner.shown).clone(), self.inner.key.clone());
        Self::introduce(line, (Some(joining), LaneConnections::default()), shown).await
    }

    /// Gives its connection up once another one has succeeded it ([`Self::succeed`]): what is open here goes on
    /// there.
    pub async fn leave_behind(&self) {
        if let Below::Quic { connection, .. } = &self.inner.below {
            let code = VarInt::from_u32(LEFT_BEHIND);
            connection.close(code, b"");
            self.inner.lanes.close(code).await;
        }
    }

    /// Those that were sent and received so far.
    fn datagrams(&self) -> Option<(u64, u64)> {
        let Below::Quic { connection, .. } = &self.inner.below else { return None };
        let stats = connection.stats();
        Some((stats.udp_tx.datagrams, stats.udp_rx.datagrams))
    }
}
