//! What a failover of the database lost holds up its connections, until somebody gives it up.

use std::time::Duration;

use rap_proto::{
    Generation, VpnConnectionId,
    bus::{LeaseReport, NodeBody, ReportedConnection},
};
use reqwest::Method;
use serde_json::json;
use tokio::time::{interval, timeout};

use crate::{
    bus::{message, say},
    node::{Host, enroll},
    world::{Api, Reply, World, tenant},
};

const ACCEPT: &str = "/leases/accept-loss";
const CONNECTION: &str = "/organizations/acme/vpn-connections/acme-vpn";
/// What the node says that it agreed to, and what the database shows nothing of.
const LOST: Generation = Generation::new(7);
/// How often nodes say how they are, as agents do.
const PACE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_a_failover_lost_is_given_up_by_the_platform_owner_and_outlives_a_restart() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let join = json!({
        "organization": "acme", "ttlSeconds": 600, "autoApprove": true,
        "roles": [{"role": "vpn-connector", "organizations": [acme.organization]}],
    });
    let join = acme.api.post("/join-tokens", join).await;
    let host = enroll(&world, join.json["secret"].as_str().unwrap(), "edge").await;
    let connection: VpnConnectionId = acme.connection.parse().unwrap();
    let early = accept(&root, 1).await;
    assert_eq!((early.problem(), &early.json["rule"]), ("rejected", &json!("lease.nothing_lost")));
    let enabled = acme.api.change(Method::POST, &format!("{CONNECTION}/enable"), None, 1).await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);

    tokio::select! {
        () = report(&world, &host, connection, LOST) => {}
        () = give_up(&root, &acme.api) => {}
    }
    assert_eq!(root.get("/leases").await.json["lossAccepted"], 1);

    // The replica that comes after it knows from the log what was given up.
    let more = Generation::new(LOST.number() + 10);
    let (dir, log) = world.stop().await;
    let again = World::start_over(dir, log).await;
    let (root, owner) = (again.log_in("root").await, again.log_in("acme-owner").await);
    assert_eq!(root.get("/leases").await.json["lossAccepted"], 1);
    tokio::select! {
        () = report(&again, &host, connection, more) => {}
        () = rises(&owner, more) => {}
    }
    again.stop().await;
}

/// The connection is held up, only the owner of the platform changes that, and then it is granted.
async fn give_up(root: &Api, owner: &Api) {
    let held_up = async {
        let mut pace = interval(PACE);
        while owner.get(CONNECTION).await.json["reason"] != "table_went_back" {
            pace.tick().await;
        }
    };
    timeout(PATIENCE, held_up).await.expect("the organization is told why nobody carries it");
    let leases = root.get("/leases").await;
    let expected = json!({"timeline": 1, "lossAccepted": null, "heldUp": 1, "revision": 0});
    assert_eq!(leases.json, expected);

    let stranger = owner.change(Method::POST, ACCEPT, Some(json!({"timeline": 1})), 0).await;
    assert_eq!(stranger.problem(), "forbidden");
    let elsewhere = accept(root, 2).await;
    assert_eq!(elsewhere.problem(), "rejected");
    assert_eq!(
        (&elsewhere.json["rule"], &elsewhere.json["field"]),
        (&json!("lease.timeline"), &json!("timeline"))
    );
    assert_eq!(root.get("/leases").await.json, expected, "a refusal changes nothing");
    let accepted = accept(root, 1).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    let path = format!("/audit?min_position={}", accepted.position());
    let audit = root.get(&path).await;
    let mut events = audit.json["items"].as_array().unwrap().iter();
    let event = events.find(|event| event["type"] == "authority.loss_accepted").unwrap();
    assert_eq!(event["actor"]["kind"], "user", "{event}");
    rises(owner, LOST).await;
}

async fn accept(who: &Api, timeline: u64) -> Reply {
    let revision = who.get("/leases").await.revision();
    who.change(Method::POST, ACCEPT, Some(json!({"timeline": timeline})), revision).await
}

/// Waits until a node is granted the connection above a generation.
async fn rises(owner: &Api, above: Generation) {
    let granted = async {
        let mut pace = interval(PACE);
        while owner.get(CONNECTION).await.json["generation"].as_u64().unwrap() <= above.number() {
            pace.tick().await;
        }
    };
    timeout(PATIENCE, granted).await.expect("it is granted again");
}

/// The node says again and again that it is ready, and what it remembers.
async fn report(world: &World, host: &Host, connection: VpnConnectionId, floor: Generation) {
    let mut pace = interval(PACE);
    for sequence in 1.. {
        pace.tick().await;
        let one = ReportedConnection { connection, ready: true, floor, holding: None };
        let report = LeaseReport { draining: false, connections: vec![one] };
        let message = message(world, host, sequence, NodeBody::Leases(report));
        say(world, host, &message, &host.key).await;
    }
}
