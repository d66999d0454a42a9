//! A token of a generation that was followed by another opens nothing: at no node, and after no
//! restart.

use std::time::Duration;

use rap_e2e::{Fabric, Space, until};
use rap_proto::{Generation, RefusalCode};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::{
    skip, step,
    ticket::{self, Shown, Ticket},
};

/// Where the recording drivers send to; nobody listens.
const PORT: u16 = 4501;
/// Where both nodes reach the resource.
const TARGET_PORT: u16 = 9100;
const PATIENCE: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_an_older_generation_opens_nothing_even_after_a_restart() {
    let test = "fence::a_token_of_an_older_generation_opens_nothing_even_after_a_restart";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let mut fabric = match Fabric::start_recording(PORT).await {
        Ok(fabric) => fabric,
        Err(reason) => return skip(test, &reason),
    };
    open_target(&fabric);
    set(&fabric).await;
    let bearer = bearer(&fabric).await;

    step("the egress carries the resource");
    let first = active(&fabric, Space::Egress).await;
    let old = Ticket::request(&fabric, &bearer, "shared").await;
    assert_eq!(old.show(&fabric).await, Shown::Opened);

    step("it stands still, and the relay's host carries it");
    fabric.signal_agent(Space::Egress, Signal::STOP);
    let second = active(&fabric, Space::Relay).await;
    assert!(second > first, "{second} after {first}");
    let new = Ticket::request(&fabric, &bearer, "shared").await;
    let control = ticket::control_key(&fabric);
    let older = new.forged(&fabric, &control, |claims| {
        let leased = claims.leased.as_mut().expect("the resource is carried");
        assert_eq!(leased.generation, second);
        leased.generation = first;
    });
    // The entry has heard of nothing yet; the holder knows what it holds.
    let superseded = RefusalCode::LeaseSuperseded;
    assert_eq!(older.show(&fabric).await, Shown::RefusedChannel(superseded));
    assert_eq!(new.show(&fabric).await, Shown::Opened);
    assert_eq!(older.show(&fabric).await, Shown::RefusedByEntry(superseded));
    is_audited(&fabric, superseded, 2).await;

    step("the entry is killed and started again");
    fabric.signal_agent(Space::Entry, Signal::KILL);
    let entry = fabric.agent(Space::Entry);
    until("the entry has ended", PATIENCE, async || entry.ended()).await;
    fabric.start_agent(Space::Entry);
    let shown = until("the entry answers again", PATIENCE, async || {
        Some(older.show(&fabric).await).filter(|shown| !matches!(shown, Shown::Other(_)))
    })
    .await;
    assert_eq!(shown, Shown::RefusedByEntry(superseded));
    assert_eq!(new.show(&fabric).await, Shown::Opened);
    is_audited(&fabric, superseded, 3).await;

    step("the old session is over, and its holder stops");
    // By its client, or by control when it had not got so far.
    let old_session = old.session(&fabric).uuid().to_string();
    let ended = |event: &Value| {
        let over = ["session.ended", "session.terminated"];
        over.iter().any(|kind| event["type"] == *kind) && event["stream"] == old_session.as_str()
    };
    fabric.event("the old session is ended", ended).await;
    fabric.signal_agent(Space::Egress, Signal::CONT);
    state(&fabric, Space::Egress, "standby").await;
    assert!(matches!(old.show(&fabric).await, Shown::RefusedByEntry(_)));
}

/// What the resource is: it reads until its client closes.
fn open_target(fabric: &Fabric) {
    let listener = fabric.lab().listen(Space::Control, TARGET_PORT);
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                let _ = stream.read_to_end(&mut received).await;
            });
        }
    });
}

/// Two nodes of one pool may carry the connection of one resource; the egress begins.
async fn set(fabric: &Fabric) {
    let (ada, owner) = (&fabric.ada, &fabric.owner);
    ada.rap(&["org", "set-member", "acme", "owner", "organization_admin"]).await.ok();
    let roles = ["stream-worker@acme", "vpn-connector@acme"];
    ada.rap(&[["node", "roles", "egress"].as_slice(), &roles].concat()).await.ok();
    owner.rap(&[["node", "roles", "relay", "relay-node"].as_slice(), &roles].concat()).await.ok();
    owner.rap(&["node", "pools", "relay", "office", "--organization", "acme"]).await.ok();
    let target = format!("{}:{TARGET_PORT}", Space::Control.address());
    let words = ["--kind", "tcp", "--target", &target, "--pool", "office"];
    ada.rap(&[["resource", "create", "shared"].as_slice(), &words].concat()).await.ok();
    ada.rap(&["policy", "create", "guests", "--user", "alice", "--resource", "shared"]).await.ok();
    let words = ["vpn", "create", "tunnel", "--class", "fast", "--node", "egress", "--enable"];
    ada.rap(&words).await.ok();
    let carried = ["resource", "carry", "shared", "--connection", "tunnel", "-o", "json"];
    let carried = ada.rap(&carried).await.json();
    assert_eq!(carried["connectionName"], "tunnel", "{carried}");
    ada.rap(&["vpn", "rm", "tunnel"]).await.fails(6);
    fabric.settle().await;
    active(fabric, Space::Egress).await;
    ada.rap(&["vpn", "nodes", "tunnel"]).await.ok();
    state(fabric, Space::Relay, "standby").await;
}

async fn bearer(fabric: &Fabric) -> String {
    let words = ["token", "api", "create", "tickets", "--scope", "connect", "-o", "json"];
    let created = fabric.alice.rap(&words).await.json();
    created["secret"].as_str().unwrap().to_owned()
}

/// The generation under which a host carries the connection, once it does.
async fn active(fabric: &Fabric, host: Space) -> Generation {
    let connection = state(fabric, host, "active").await;
    Generation::new(connection["generation"].as_u64().unwrap())
}

async fn state(fabric: &Fabric, host: Space, expected: &str) -> Value {
    until(&format!("{host:?} is {expected}"), PATIENCE, async || {
        let status = fabric.agent_status(host).await?;
        let connection = &status["leases"]["connections"][0];
        let ready = connection["ready"] == true || connection["state"] == "active";
        (ready && connection["state"] == expected).then(|| connection.clone())
    })
    .await
}

/// Each refusal is in the log, whichever node decided it.
async fn is_audited(fabric: &Fabric, code: RefusalCode, number: usize) {
    let refused = |event: &Value| {
        event["type"] == "session.access_refused" && event["payload"]["code"] == code.as_str()
    };
    until("every refusal is on record", PATIENCE, async || {
        let found = fabric.audit().await.into_iter().filter(&refused).count();
        (found >= number).then_some(())
    })
    .await;
}
