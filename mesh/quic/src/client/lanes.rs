//! The connections beside a session's own, one for pictures and one for bulk: nothing that waits on one of them
//! holds up what is on another.

use std::{collections::BTreeMap, time::Duration};

use quinn::{ClientConfig, Connection, VarInt};
use rap_pki::tls::TlsError;
use rap_proto::{
    Lane, SessionId, Signer,
    token::EXPORTER_LABEL,
    wire::{self, client::JoinSession},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::session::{Below, ClientSession, Inner, close_code};
use crate::{
    pipe::{Inlet, Outlet},
    tls,
};

/// How long a lane's connection may take to be made: its channel waits for it, and can do without.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// How long a lane is on the session's own connection after it got none.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Made when the first channel of a lane opens. Without a place, a lane is on the session's own connection.
#[derive(Default)]
pub(super) struct LaneConnections {
    server_name: String,
    places: BTreeMap<Lane, Place>,
}

/// What they are made with.
pub(super) type LaneConfigs = BTreeMap<Lane, ClientConfig>;

pub(super) fn lane_configs(authorities: &[Vec<u8>]) -> Result<LaneConfigs, TlsError> {
    let mut configs = LaneConfigs::new();
    for lane in Lane::ALL {
        configs.extend(tls::channels_config(authorities, *lane)?.map(|config| (*lane, config)));
    }
    Ok(configs)
}

struct Place {
    config: ClientConfig,
    /// Held by whoever connects: who else wants the lane waits for the same connection.
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    NotAsked,
    Open(Beside),
    Failed(Instant),
}

#[derive(Clone)]
struct Beside {
    connection: Connection,
    /// What each stream begins with: whose it is.
    join: Vec<u8>,
}

impl LaneConnections {
    /// To an entry of this name.
    pub(super) fn to(server_name: &str, configs: &LaneConfigs) -> Self {
        let place =
            |config: &ClientConfig| Place { config: config.clone(), state: Mutex::default() };
        let places = configs.iter().map(|(lane, config)| (*lane, place(config))).collect();
        Self { server_name: server_name.to_owned(), places }
    }

    pub(super) async fn close(&self, code: VarInt) {
        for place in self.places.values() {
            place.state.lock().await.close(code);
        }
    }
}

impl Drop for LaneConnections {
    fn drop(&mut self) {
        self.places.values_mut().for_each(|place| place.state.get_mut().close(close_code()));
    }
}

impl State {
    fn close(&mut self, code: VarInt) {
        if let Self::Open(Beside { connection, .. }) = std::mem::take(self) {
            connection.close(code, b"");
        }
    }
}

impl ClientSession {
    /// The lanes that have a connection of their own at the moment.
    pub async fn lanes(&self) -> Vec<Lane> {
        let mut open = Vec::new();
        for (lane, place) in &self.inner.lanes.places {
            if matches!(&*place.state.lock().await, State::Open(it) if it.connection.close_reason().is_none())
            {
                open.push(*lane);
            }
        }
        open
    }

    /// A stream of the session on the connection of this lane, which begins with these words. `None` where the
    /// lane has none.
    pub(super) async fn on_lane(&self, lane: Lane, words: &[u8]) -> Option<(Outlet, Inlet)> {
        let Beside { connection, join } = self.beside(lane).await?;
        let (send, recv) = connection.open_bi().await.ok()?;
        let mut send = Outlet::Quic(send);
        send.write_all(&[&join, words].concat()).await.ok()?;
        Some((send, Inlet::Quic(recv)))
    }

    async fn beside(&self, lane: Lane) -> Option<Beside> {
        let Inner { below: Below::Quic { endpoint, connection }, session, lanes, key, .. } =
            &*self.inner
        else {
            return None;
        };
        let Place { config, state } = lanes.places.get(&lane)?;
        let mut state = state.lock().await;
        match &*state {
            State::Open(joined) if joined.connection.close_reason().is_none() => {
                return Some(joined.clone());
            }
            State::Failed(at) if at.elapsed() < RETRY_AFTER => return None,
            // Nor does a lane reach an entry that the session does not reach.
            _ if connection.close_reason().is_some() => return None,
            State::NotAsked | State::Open(_) | State::Failed(_) => {}
        }
        let (address, name) = (connection.remote_address(), lanes.server_name.as_str());
        let connecting = async {
            let connecting = endpoint.connect_with(config.clone(), address, name).ok()?;
            join(connecting.await.ok()?, (*session)?, &**key)
        };
        // Until it is made, and should nobody wait for it any more.
        *state = State::Failed(Instant::now());
        let joined = tokio::select! {
            biased;
            joined = timeout(DIAL_LIMIT, connecting) => joined.ok().flatten()?,
            _ = connection.closed() => return None,
        };
        *state = State::Open(joined.clone());
        Some(joined)
    }
}

fn join(connection: Connection, session: SessionId, key: &dyn Signer) -> Option<Beside> {
    let mut exported = [0; 32];
    connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"").ok()?;
    let join = wire::frame(&JoinSession::make(session, exported, key));
    Some(Beside { connection, join })
}
