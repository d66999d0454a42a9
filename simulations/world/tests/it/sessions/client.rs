//! A client's program: one session after another, each with a channel on which it counts.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rap_mesh::Carrier;
use rap_mesh::client::{self, Channel, ClientSession, ConnectOptions, EntryAddress, OpenChannel};
use rap_pki::node_server_name;
use rap_proto::{ChannelKind, Lane, SessionId, Signer as _, key::LocalKey};
use rap_simulations::{
    cast,
    kit::{Chance, Violation},
    message::{AskAccess, Granted},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    daemons::{
        cluster::Cluster,
        control::Plane,
        desk::{Desk, WHOLE},
        ground::{LOSS_PERMILLE, today},
    },
    meshes::{network::SimNetwork, record::Record},
};

/// How often it looks whether it shall do something, and tries again what did not come about.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it says a number, and how many on one channel.
const SAY_EVERY: Duration = Duration::from_millis(100);
const NUMBERS: (u64, u64) = (30, 120);
/// How long it waits for the last ones to come back.
const LATE: Duration = Duration::from_secs(12);

/// What a client's program is started with.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) cluster: Rc<Cluster>,
    pub(super) plane: Rc<RefCell<Plane>>,
    pub(super) desk: Desk,
    pub(super) record: Record,
    pub(super) orders: Rc<Orders>,
    pub(super) chance: Rc<RefCell<Chance>>,
    /// A planted bug does not.
    pub(super) closes: bool,
}

/// What the run asks of a client, and what that says of itself.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) begins: Cell<bool>,
    /// Open no more.
    pub(super) ends: Cell<bool>,
    /// Have another address.
    pub(super) moves: Cell<bool>,
    /// It has a channel.
    pub(super) is_busy: Cell<bool>,
    pub(super) said: Cell<u64>,
    /// Whose channels came to their ends, as they should.
    pub(super) closed: RefCell<Vec<SessionId>>,
}

pub(super) async fn run(client: Client) -> turmoil::Result {
    let own = Chance::new(client.chance.borrow_mut().number(), 0);
    let network = SimNetwork::new(own, LOSS_PERMILLE, client.record.clone()).by(today);
    // What a planted bug keeps open.
    let mut kept = Vec::new();
    loop {
        sleep(LOOK_EVERY).await;
        if !client.orders.begins.get() || client.orders.ends.get() {
            continue;
        }
        let Some((id, session)) = client.connected(&network).await else { continue };
        let channel = match session.open(asked_for()).await {
            Ok(channel) => channel,
            Err(error) => {
                client.record.note(format_args!("no channel of {id}: {error}"));
                session.close().await;
                continue;
            }
        };
        client.orders.is_busy.set(true);
        let outcome = client.count(id, channel, &network).await;
        client.record.note(format_args!("the channel of {id} is over: {outcome:?}"));
        client.desk.judge(outcome.map_err(|detail| Violation::new(WHOLE, detail)));
        client.orders.is_busy.set(false);
        client.orders.closed.borrow_mut().push(id);
        if client.closes {
            session.close().await;
        } else {
            kept.push(session);
        }
    }
}

fn asked_for() -> OpenChannel {
    let (channel, lane) = (ChannelKind::Stream, Lane::Interactive);
    OpenChannel { channel, lane, traceparent: None, resume: None }
}

impl Client {
    /// A new session at its entry, unless somebody cannot serve it now.
    async fn connected(&self, network: &SimNetwork) -> Option<(SessionId, ClientSession)> {
        let key = LocalKey::from_random(&self.chance.borrow_mut().bytes())?;
        let tenant = cast::tenants().swap_remove(0);
        let ask = AskAccess {
            request: 0,
            organization: tenant.organization,
            // The one whom every policy permits.
            user: tenant.users[0],
            resource: tenant.resources[0],
            client_key: key.public_key(),
        };
        let asked = self.plane.borrow_mut().access(&ask);
        let Granted { session, token, entries } = match asked? {
            Ok(granted) => granted,
            Err(code) => {
                self.record.note(format_args!("no access: {code}"));
                return None;
            }
        };
        let places = self.cluster.places();
        let entries = entries.iter().map(|entry| EntryAddress {
            server_name: node_server_name(*entry),
            addresses: vec![self.cluster.address(places[entry])],
        });
        let options = ConnectOptions {
            entries: entries.collect(),
            authorities: vec![self.cluster.authority.certificate_der().to_vec()],
            token,
            key: Arc::new(key),
            carrier: Some(Carrier::Quic),
            through: false,
        };
        let connected = client::connect_over(network, options).await;
        let failed = |error| self.record.note(format_args!("no session {session}: {error}"));
        connected.map_err(failed).ok().map(|connected| (session, connected))
    }

    /// Says numbers and waits until each came back. What is wrong, if anything is.
    async fn count(
        &self,
        id: SessionId,
        channel: Channel,
        network: &SimNetwork,
    ) -> Result<(), String> {
        let many = NUMBERS.0 + self.chance.borrow_mut().below(NUMBERS.1 - NUMBERS.0);
        let (mut writer, mut reader) = channel.split();
        let saying = async {
            let mut ticks = interval(SAY_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for number in 0..many {
                ticks.tick().await;
                if self.orders.moves.take() {
                    self.record.note(format_args!("a client's address changes"));
                    network.change_ports();
                }
                writer.write_u64(number).await?;
                writer.flush().await?;
                self.orders.said.update(|said| said + 1);
            }
            Ok::<_, std::io::Error>(())
        };
        let hearing = async {
            for number in 0..many {
                let heard = reader.read_u64().await?;
                self.record.answered(number);
                if heard != number {
                    return Ok(Some(format!("{id} heard {heard} in place of {number}")));
                }
            }
            Ok::<_, std::io::Error>(None)
        };
        let takes = SAY_EVERY * u32::try_from(many).unwrap() + LATE;
        let over = timeout(takes, async { tokio::try_join!(saying, hearing) }).await;
        let taken = self.desk.taken(id);
        match over {
            Ok(Ok(((), None))) if taken == many => Ok(()),
            Ok(Ok(((), None))) => {
                Err(format!("of {many} numbers of {id} the resource got {taken}"))
            }
            Ok(Ok(((), Some(wrong)))) => Err(wrong),
            Ok(Err(error)) => {
                Err(format!("the channel of {id} ended at {taken} of {many}: {error}"))
            }
            Err(_) => Err(format!("after {takes:?} {id} has {taken} of {many} numbers there")),
        }
    }
}
