//! Ten thousand leases that nodes hold at one `rap-control`, renewed every three seconds over HTTPS
//! while its grantor watches. That they are held already is in the log when it hears of them.
//!
//! Each node holds its share and stands by for another one's, as nodes in pairs do. It renews each
//! lease when that is due, what is due together in one call, and says over the bus each second how
//! it stands to all of them, signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use rap_agent_core::{
    jitter::Jitter,
    lease::holders::{CALL_GAP, REPORT_EVERY},
};
use rap_events::{
    lease::LeaseChange,
    vpn_connection::{VpnConnection, VpnConnectionCommand},
};
use rap_log_postgres::private::PrivatePostgres;
use rap_proto::{
    ClusterId, Generation, IncarnationId, LeaseClass, NodeRole, VpnConnectionId,
    beat::FIRST_AUTHORITY_EPOCH,
    bus::{
        LeaseReport, MAX_REPORTED_CONNECTIONS, MESSAGE_TTL_MS, NodeBody, NodeMessage,
        ReportedConnection,
    },
    codec, signed,
    wire::node_api::{
        LeaseRenewal, LeasesReply, LeasesRequest, MAX_BODY_BYTES, MAX_LEASES_PER_CALL,
        RenewalVerdict,
    },
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval_at, sleep, sleep_until, timeout},
};

use super::{
    Fleet, PATIENCE, POLL,
    bus::Bus,
    milliseconds,
    node::{Line, Node},
    now, stream as new_stream,
};
use crate::{Outcome, figure};

const LEASES: u32 = 10_000;
const NODES: u32 = 160;
const SHARE: u32 = LEASES.div_ceil(NODES);
const CLASS: LeaseClass = LeaseClass::Steady;
const GENERATION: u64 = 1;
const EVERY: Duration = Duration::from_secs(3);
/// As long as an agent waits for an answer about leases.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How long is measured once all are held.
const SPAN: Duration = Duration::from_secs(15);
/// What part of its pace this process has to keep, or the figures are of something else.
const LEAST_PACE: f64 = 0.95;
/// After the first reports.
const REST: Duration = Duration::from_secs(3);

const _: () = assert!(2 * SHARE as usize <= MAX_REPORTED_CONNECTIONS, "one report says it all");

pub(crate) async fn measure(server: &PrivatePostgres) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let (mut fleet, mut told) = Fleet::start(server, dir.path(), "holding").await?;
    // Whoever is not read is cut off by the bus.
    tokio::spawn(async move { while told.recv().await.is_some() {} });
    let outcome = hold(&mut fleet).await;
    fleet.stop().await;
    outcome
}

async fn hold(fleet: &mut Fleet) -> Outcome<()> {
    let holders = populate(fleet).await?;
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    let first = Instant::now();
    for (number, holder) in (0..NODES).zip(&holders) {
        let line = holder.node.line(&fleet.authority, now(), fleet.control.port())?;
        let begin = first + EVERY * number / NODES;
        running.spawn(Arc::clone(holder).renew(line, begin, stopped.clone()));
        running.spawn(Arc::clone(holder).report(fleet.bus.clone(), begin, stopped.clone()));
    }
    let works = "rap_control_connections{reason=\"holder_works\"}";
    let all = u64::from(LEASES);
    fleet.control.settles(works, |held| held == all, PATIENCE, POLL * 10).await?;
    sleep(REST).await;
    for holder in &holders {
        holder.take_counted();
    }
    let (begun, used) = (Instant::now(), fleet.cpu_seconds()?);
    sleep(SPAN).await;
    let share = (fleet.cpu_seconds()? - used) / begun.elapsed().as_secs_f64();
    let counted: Vec<Counted> = holders.iter().map(|holder| holder.take_counted()).collect();
    stop.send_replace(true);
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    tell(share, &counted);
    Ok(())
}

fn tell(share: f64, counted: &[Counted]) {
    let renewed: u32 = counted.iter().map(|counted| counted.renewed).sum();
    let missed: u32 = counted.iter().map(|counted| counted.missed).sum();
    let pace = f64::from(renewed) / SPAN.as_secs_f64();
    let wanted = f64::from(LEASES) / EVERY.as_secs_f64();
    if pace < wanted * LEAST_PACE {
        println!("leases_missed\tskipped\tonly {pace:.0} renewals a second were asked for");
        return;
    }
    let mut times: Vec<Duration> =
        counted.iter().flat_map(|counted| counted.times.clone()).collect();
    times.sort();
    let late = times[(times.len() - 1) * 99 / 100];
    figure("leases_cpu", share * 100.0, "% of a core");
    figure("leases_missed", f64::from(missed), "renewals");
    figure("leases_renewed", pace, "renewals/s");
    figure("leases_calls", times.len() as f64 / SPAN.as_secs_f64(), "calls/s");
    figure("leases_call_p99", milliseconds(late), "ms");
}

/// Connections of one organization. Of each the share's own node has the lease, and the next one
/// stands by.
async fn populate(fleet: &mut Fleet) -> Outcome<Vec<Arc<Holder>>> {
    let nodes: Vec<Node> = (0..NODES).map(Node::new).collect();
    let (mut streams, mut leases) = (Vec::new(), BTreeMap::new());
    for (number, node) in (0..NODES).zip(&nodes) {
        streams.push(fleet.enrolled(node, number, NodeRole::VpnConnector, BTreeSet::new())?);
    }
    let mut carried: Vec<Vec<VpnConnectionId>> = vec![Vec::new(); nodes.len()];
    let mut held: Vec<BTreeSet<VpnConnectionId>> = vec![BTreeSet::new(); nodes.len()];
    for number in 0..LEASES {
        let id = VpnConnectionId::from_u128(u128::from(number) | 4 << 64);
        let share = (number / SHARE) as usize;
        let carriers = share..nodes.len().min(share + 2);
        let create = VpnConnectionCommand::Create {
            organization: fleet.organization,
            name: format!("vpn{number}").parse()?,
            class: CLASS,
            nodes: nodes[carriers.clone()].iter().map(|node| node.id).collect(),
            enabled: true,
        };
        let granted_at = now();
        let grant = VpnConnectionCommand::GrantLease {
            node: nodes[share].id,
            generation: GENERATION,
            granted_at,
            valid_until: granted_at + CLASS.ttl(),
        };
        let connection = new_stream::<VpnConnection>(id.uuid(), [create, grant])?;
        let change = LeaseChange::Grant {
            lease: connection.stream.clone(),
            generation: GENERATION,
            holder: nodes[share].id.uuid(),
            ttl_ms: CLASS.ttl_ms(),
            timeline: None,
        };
        leases.insert(connection.stream.clone(), change);
        streams.push(connection);
        held[share].insert(id);
        carriers.for_each(|carrier| carried[carrier].push(id));
    }
    fleet.store(streams, leases).await?;
    let cluster = fleet.authority.cluster();
    let holder = |((node, carried), held)| {
        Arc::new(Holder { cluster, node, carried, held, counted: Mutex::default() })
    };
    Ok(nodes.into_iter().zip(carried).zip(held).map(holder).collect())
}

struct Holder {
    cluster: ClusterId,
    node: Node,
    carried: Vec<VpnConnectionId>,
    held: BTreeSet<VpnConnectionId>,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    renewed: u32,
    /// Refused, or not answered within [`ANSWER_LIMIT`].
    missed: u32,
    /// How long each call took.
    times: Vec<Duration>,
}

impl Holder {
    /// What was counted since it was taken last.
    fn take_counted(&self) -> Counted {
        mem::take(&mut self.counted.lock().expect("no holder of the lock panics"))
    }

    /// Renews each lease when it is due, as an agent does: what is due together is one call, and
    /// the next one begins [`CALL_GAP`] later at the earliest.
    async fn renew(
        self: Arc<Self>,
        mut line: Line,
        begin: Instant,
        stopped: watch::Receiver<bool>,
    ) -> Outcome<()> {
        let mut jitter = Jitter::new(self.node.seed);
        // Each lease goes its own way after a while, so they begin anywhere.
        let mut anywhere = || begin + jitter.around(EVERY / 2, 100);
        let mut due: BTreeSet<_> = self.held.iter().map(|held| (anywhere(), *held)).collect();
        let mut not_before = begin;
        while !*stopped.borrow() {
            let Some((first, _)) = due.first() else { break };
            sleep_until(not_before.max(*first)).await;
            let sent = Instant::now();
            not_before = sent + CALL_GAP;
            let ready = due.iter().take_while(|(at, _)| *at <= sent);
            let asked: Vec<_> = ready.take(MAX_LEASES_PER_CALL).copied().collect();
            due.retain(|one| !asked.contains(one));
            let call = timeout(ANSWER_LIMIT, renew_all(&mut line, &asked));
            let renewed = call.await.unwrap_or_else(|late| Err(late.into()));
            let renewed = renewed.unwrap_or_else(|error| {
                eprintln!("leases are not renewed: {error}");
                0
            });
            self.count(sent, u32::try_from(asked.len())?, renewed);
            due.extend(asked.into_iter().map(|(at, held)| (at + jitter.around(EVERY, 10), held)));
        }
        Ok(())
    }

    fn count(&self, sent: Instant, asked: u32, renewed: u32) {
        let mut counted = self.counted.lock().expect("no holder of the lock panics");
        counted.renewed += renewed;
        counted.missed += asked - renewed;
        counted.times.push(sent.elapsed());
    }

    async fn report(
        self: Arc<Self>,
        bus: Bus,
        begin: Instant,
        stopped: watch::Receiver<bool>,
    ) -> Outcome<()> {
        let mut ticks = interval_at(begin, REPORT_EVERY);
        for sequence in 1.. {
            ticks.tick().await;
            if *stopped.borrow() {
                break;
            }
            let issued_at = now();
            let message = NodeMessage {
                cluster: self.cluster,
                authority_epoch: FIRST_AUTHORITY_EPOCH,
                sender: self.node.id,
                incarnation: IncarnationId::from_u128(1),
                sequence,
                issued_at,
                expires_at: issued_at + Duration::from_millis(MESSAGE_TTL_MS),
                body: NodeBody::Leases(self.standing()),
            };
            bus.say(self.node.id, &signed::seal(&message, &[&self.node.key]));
        }
        Ok(())
    }

    fn standing(&self) -> LeaseReport {
        let standing = |connection: &VpnConnectionId| {
            let holding = self.held.contains(connection).then_some(Generation::new(GENERATION));
            let floor = holding.unwrap_or_default();
            ReportedConnection { connection: *connection, ready: true, floor, holding }
        };
        LeaseReport { draining: false, connections: self.carried.iter().map(standing).collect() }
    }
}

/// How many of these were renewed.
async fn renew_all(line: &mut Line, asked: &[(Instant, VpnConnectionId)]) -> Outcome<u32> {
    let generation = Generation::new(GENERATION);
    let renewal = |(request, (_, connection)): (u64, &(Instant, VpnConnectionId))| LeaseRenewal {
        connection: *connection,
        generation,
        request,
    };
    let renewals = (0..).zip(asked).map(renewal).collect();
    let request = LeasesRequest { renewals, releases: Vec::new() };
    let answer = line.call("/node/v1/leases", &request).await?.ok_or("no answer")?;
    let reply: LeasesReply = codec::decode(&answer, MAX_BODY_BYTES)?;
    let renewed = reply
        .renewals
        .iter()
        .filter(|answer| matches!(answer.outcome, RenewalVerdict::Renewed { .. }));
    Ok(u32::try_from(renewed.count())?)
}
