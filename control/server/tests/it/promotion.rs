//! Leases over a database of which another server took over: the holder goes on, and nobody else is
//! granted anything for as long as the lost server may have promised it.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rap_bus::LocalBus;
use rap_control::{BusChoice, LogChoice};
use rap_events::{
    EventCodec as _, Log as _,
    vpn_connection::{LeaseGranted, VpnConnectionEvent},
};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};
use rap_proto::{
    Generation, LeaseClass, Timestamp, VpnConnectionId,
    bus::{LeaseReport, NodeBody, ReportedConnection},
    wire::node_api::{
        LeaseRelease, LeaseRenewal, LeasesReply, LeasesRequest, RenewalVerdict, RenewalVerdict::*,
    },
};
use reqwest::Method;
use serde_json::json;
use tokio::time::{interval, timeout};
use tokio_postgres::{NoTls, Row};

use crate::{
    bus::{message, say},
    node::{Host, call, enroll},
    world::{Api, Tenant, World, tenant},
};

const CONNECTION: &str = "/organizations/acme/vpn-connections/acme-vpn";
/// How often nodes say how they are, as agents do, and ask again what was not answered.
const PACE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);
/// The first generation of the second timeline is above all that the first one can have granted.
const SECOND_TIMELINE: u64 = 1 << 32;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_promotion_the_holder_is_renewed_and_nothing_is_granted_within_the_hold_off() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("postgres");
    let mut postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
    let database = postgres.create_log("control").await.unwrap();
    // What was acknowledged is there after the crash, as on a standby that is synchronous.
    ask(&folder, "ALTER DATABASE control SET synchronous_commit = on").await;
    let bus = LocalBus::new();
    let (log_choice, bus_choice) =
        (LogChoice::Postgres(database.clone()), BusChoice::Local(Arc::new(bus.clone())));
    let own = tempfile::tempdir().unwrap();
    let mut world = World::start_with(own, log_choice, bus_choice).await;
    world.bus = bus;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let hosts = [host(&world, &acme, "left").await, host(&world, &acme, "right").await];
    let connection: VpnConnectionId = acme.connection.parse().unwrap();
    let enabled = acme.api.change(Method::POST, &format!("{CONNECTION}/enable"), None, 1).await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);
    let log = PostgresLog::connect(&database).await.unwrap();
    let scene = Scene { world: &world, hosts: &hosts, connection };
    tokio::select! {
        () = scene.report() => {}
        () = fail_over(&scene, &acme.api, &log, &mut postgres, &folder) => {}
    }
    log.close().await;
    world.stop().await;
    postgres.stop().await;
}

async fn fail_over(
    scene: &Scene<'_>,
    api: &Api,
    log: &PostgresLog,
    postgres: &mut PrivatePostgres,
    folder: &Path,
) {
    let (first, _) = granted(log, 0).await;
    assert!(first.generation < SECOND_TIMELINE);
    let (holder, other) = scene.by_holder(&first);
    let (asked, before) = scene.renewed(holder, first.generation).await;
    let Renewed { remaining_ms, .. } = before else { panic!("{before:?}") };
    postgres.kill().await;
    let promoted = promote(postgres, folder).await;

    // The row came along: whoever holds is renewed, unless the outage outlived the lease.
    let (_, after) = scene.renewed(holder, first.generation).await;
    match after {
        Renewed { generation, .. } => assert_eq!(generation.number(), first.generation),
        Over => assert!(asked.elapsed() >= Duration::from_millis(remaining_ms)),
        Superseded { .. } => panic!("{after:?}"),
    }
    scene.release(holder, first.generation).await;
    // It is free, and the other one is ready; and still nobody is granted it.
    let waits = async {
        let mut pace = interval(PACE);
        loop {
            pace.tick().await;
            let shown = api.get(CONNECTION).await;
            assert_eq!(shown.status, 200, "{}", shown.text);
            if matches!(shown.json["reason"].as_str(), Some("holding_off" | "running_out")) {
                return;
            }
        }
    };
    timeout(PATIENCE, waits).await.expect("the operator is told why nobody carries it");
    let (second, at) = granted(log, first.generation).await;
    let held_off = at.since(promoted);
    assert!(held_off >= LeaseClass::Fast.hold_off(), "granted after {held_off:?}");
    assert_eq!((second.node, second.generation), (other.node(), SECOND_TIMELINE + 1));

    let (_, late) = scene.renewed(holder, first.generation).await;
    assert_eq!(late, Superseded { generation: Generation::new(second.generation) });
    let (_, now) = scene.renewed(other, second.generation).await;
    assert!(matches!(now, Renewed { .. }), "{now:?}");
}

async fn host(world: &World, acme: &Tenant, name: &str) -> Host {
    let join = json!({
        "organization": "acme", "ttlSeconds": 600, "autoApprove": true,
        "roles": [{"role": "vpn-connector", "organizations": [acme.organization]}],
    });
    let join = acme.api.post("/join-tokens", join).await;
    assert_eq!(join.status, 201, "{}", join.text);
    enroll(world, join.json["secret"].as_str().unwrap(), name).await
}

/// A crashed server starts as a standby on what it has on its disk, and is promoted. Returns the
/// moment before.
async fn promote(postgres: &mut PrivatePostgres, folder: &Path) -> Timestamp {
    fs::write(folder.join("data/standby.signal"), "").unwrap();
    postgres.restart().await.unwrap();
    let before = rap_control::now();
    let promoted = ask(folder, "SELECT pg_promote()").await;
    assert!(promoted[0].get::<_, bool>(0));
    before
}

/// Asks the database something past all replicas.
async fn ask(folder: &Path, sql: &str) -> Vec<Row> {
    let config = format!("host={} user=rap dbname=control", folder.join("run").display());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let running = tokio::spawn(connection);
    let rows = client.query(sql, &[]).await.unwrap();
    drop(client);
    running.await.unwrap().unwrap();
    rows
}

/// The first grant above a generation, and when it was appended.
async fn granted(log: &PostgresLog, above: u64) -> (LeaseGranted, Timestamp) {
    let waiting = async {
        let mut after = 0;
        loop {
            for envelope in log.read(after, 1_000).await.unwrap() {
                after = envelope.position;
                if envelope.stream.category == "vpn_connection"
                    && let Ok(VpnConnectionEvent::LeaseGranted(granted)) =
                        VpnConnectionEvent::from_envelope(&envelope)
                    && granted.generation > above
                {
                    return (granted, envelope.at);
                }
            }
            log.wait_beyond(after).await.unwrap();
        }
    };
    timeout(PATIENCE, waiting).await.expect("somebody is granted it")
}

/// Two nodes that may carry one connection.
struct Scene<'a> {
    world: &'a World,
    hosts: &'a [Host; 2],
    connection: VpnConnectionId,
}

impl Scene<'_> {
    /// Both say again and again that they are ready.
    async fn report(&self) {
        let mut pace = interval(PACE);
        for sequence in 1.. {
            pace.tick().await;
            for host in self.hosts {
                let one = ReportedConnection {
                    connection: self.connection,
                    ready: true,
                    floor: Generation::NONE,
                    holding: None,
                };
                let report = LeaseReport { draining: false, connections: vec![one] };
                let message = message(self.world, host, sequence, NodeBody::Leases(report));
                say(self.world, host, &message, &host.key).await;
            }
        }
    }

    fn by_holder(&self, granted: &LeaseGranted) -> (&Host, &Host) {
        let [left, right] = self.hosts;
        if granted.node == left.node() { (left, right) } else { (right, left) }
    }

    /// Asks until control answers, and says when the answered question was sent.
    async fn renewed(&self, host: &Host, generation: u64) -> (Instant, RenewalVerdict) {
        let renewal = LeaseRenewal {
            connection: self.connection,
            generation: Generation::new(generation),
            request: 7,
        };
        let request = LeasesRequest { renewals: vec![renewal], ..LeasesRequest::default() };
        let (asked, reply) = self.answered(host, &request).await;
        assert_eq!(reply.renewals[0].request, 7);
        (asked, reply.renewals[0].outcome)
    }

    async fn release(&self, host: &Host, generation: u64) {
        let release =
            LeaseRelease { connection: self.connection, generation: Generation::new(generation) };
        let request = LeasesRequest { releases: vec![release], ..LeasesRequest::default() };
        let (_, reply) = self.answered(host, &request).await;
        assert_eq!(reply.released, [release]);
    }

    async fn answered(&self, host: &Host, request: &LeasesRequest) -> (Instant, LeasesReply) {
        let credentials = host.credentials().unwrap();
        let asking = async {
            let mut pace = interval(PACE);
            loop {
                pace.tick().await;
                let asked = Instant::now();
                let path = "/node/v1/leases";
                let answer = call(self.world, credentials, &host.key, path, request).await;
                if answer.status == 200 {
                    return (asked, answer.read());
                }
                assert_eq!(answer.status, 503, "{}", answer.head);
            }
        };
        timeout(PATIENCE, asking).await.expect("control answers")
    }
}
