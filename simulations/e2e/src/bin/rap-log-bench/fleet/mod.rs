//! A fleet of nodes at one real `rap-control` over PostgreSQL and NATS: what the processes, the
//! requests, the signatures and the grantor cost.
//!
//! The nodes are events in its log, each with a key and a certificate of the cluster's CA; this
//! process speaks for all of them.

mod bus;
mod holding;
mod node;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rap_e2e::cpu_seconds;
use rap_events::{
    Aggregate, EventCodec as _,
    lease::LeaseChange,
    log::{Actor, Append, Log as _, StreamId, StreamWrite},
    node::{Node as Enrolled, NodeCommand},
};
use rap_log_postgres::{PostgresLog, private::PrivatePostgres};
use rap_pki::{ClusterAuthority, pem};
use rap_proto::{
    CommandId, Digest, NodeRole, OrganizationId, PoolId, Signer as _, Timestamp, key::LocalKey,
};
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

pub(crate) use holding::measure as holding;
pub(crate) use telling::measure as telling;

use crate::{
    Outcome,
    append::open,
    control::{Control, Nats},
    platform::requested,
};
use bus::{Bus, Told};
use node::{CERTIFICATE_LIFETIME, Node};

/// Streams in one append of events that are there before anything is measured: nodes have a few
/// events each, and an append holds 256.
const STREAMS_AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);

struct Fleet {
    control: Control,
    log: Arc<PostgresLog>,
    authority: ClusterAuthority,
    bus: Bus,
    /// What moves the bus.
    moving: JoinSet<()>,
    organization: OrganizationId,
    appended: u64,
}

impl Fleet {
    /// Starts control over an empty database of this name, with one organization and its owner.
    async fn start(
        server: &PrivatePostgres,
        dir: &Path,
        name: &str,
    ) -> Outcome<(Self, mpsc::UnboundedReceiver<Told>)> {
        let log = open(server, name).await?;
        let url = server.create_log(name).await?;
        let mut control = Control::start(dir, &url, 1, Nats::WithoutAccounts).await?;
        let organization = OrganizationId::from_uuid(control.own_organization("acme").await?);
        let authority = authority(control.state_dir())?;
        let (bus, told, moving) = Bus::connect(control.bus(), authority.cluster()).await?;
        let fleet = Self { control, log, authority, bus, moving, organization, appended: 0 };
        Ok((fleet, told))
    }

    async fn stop(mut self) {
        self.moving.shutdown().await;
        self.control.stop().await;
        self.log.close().await;
    }

    /// Stores new streams, each with the lease that begins with it, and waits until control has
    /// folded them.
    async fn store(
        &mut self,
        streams: Vec<StreamWrite>,
        mut leases: BTreeMap<StreamId, LeaseChange>,
    ) -> Outcome<()> {
        let mut last = 0;
        for writes in streams.chunks(STREAMS_AT_ONCE) {
            self.appended += 1;
            let append = Append {
                request_hash: Digest::of(&self.appended.to_be_bytes()),
                actor: Actor::System { process: "bench".to_owned() },
                leases: writes.iter().filter_map(|write| leases.remove(&write.stream)).collect(),
                ..Append::plain(
                    CommandId::from_u128(u128::from(self.appended)),
                    now(),
                    writes.to_vec(),
                )
            };
            last = self.log.append(append).await?.last;
        }
        let folded = "rap_control_folded_position";
        self.control.settles(folded, |folded| folded >= last, PATIENCE, POLL).await
    }

    /// The events of an enrolled node. Without an organization it is the platform's.
    fn enrolled(
        &self,
        node: &Node,
        number: u32,
        role: NodeRole,
        pools: BTreeSet<PoolId>,
    ) -> Outcome<StreamWrite> {
        let entry = role == NodeRole::EntryNode;
        let organization = (!entry).then_some(self.organization);
        let request = requested(number, node.key.public_key(), (organization, role, pools))?;
        let expires_at = now() + CERTIFICATE_LIFETIME;
        let certificate = NodeCommand::IssueCertificate { serial: [7; 16], expires_at };
        stream::<Enrolled>(node.id.uuid(), [request, certificate])
    }

    fn cpu_seconds(&self) -> Outcome<f64> {
        Ok(cpu_seconds(self.control.process_id()?)?)
    }
}

/// A new stream: what follows from these commands.
fn stream<A: Aggregate>(
    id: Uuid,
    commands: impl IntoIterator<Item = A::Command>,
) -> Outcome<StreamWrite> {
    let (mut aggregate, mut events) = (A::default(), Vec::new());
    for command in commands {
        for event in aggregate.decide(command, now())? {
            aggregate.evolve(&event);
            events.push(event.to_new_event(aggregate.organization()));
        }
    }
    Ok(StreamWrite { stream: A::stream(id), expected: 0, events })
}

/// The CA, whose key is where control keeps it.
fn authority(state: &Path) -> Outcome<ClusterAuthority> {
    let key = LocalKey::from_pem(&fs::read_to_string(state.join("ca.key"))?)?;
    let chain = pem::decode(&fs::read_to_string(state.join("ca.pem"))?)?;
    Ok(ClusterAuthority::load(chain.first().ok_or("no certificate of the CA")?, &key)?)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
