//! What must fail: clearly for whoever tries, on record, and without a change.

use std::{fs, path::Path, time::Duration};

use futures_util::future::join;
use rap_agent_core::record::{self, HeldManifest};
use rap_e2e::{Fabric, Space};
use rap_proto::RefusalCode;
use serde_json::{Value, json};

use super::{
    ssh, step,
    ticket::{self, Shown, Ticket},
};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_not_allowed_fails_clearly_and_changes_nothing() {
    let test = "denied::what_is_not_allowed_fails_clearly_and_changes_nothing";
    let Some(mut fabric) = super::fabric(test).await else { return };
    let nobodys = requests_to_the_office(&fabric);
    assert_eq!(nobodys, 0);
    people_without_a_policy(&fabric).await;
    tokens_that_are_not_theirs(&fabric).await;
    assert_eq!(requests_to_the_office(&fabric), nobodys, "nobody got through");
    two_hosts_with_one_join_token(&fabric).await;
    a_node_without_its_role(&fabric).await;
    snapshots_that_were_meddled_with(&mut fabric).await;
    a_revoked_node(&mut fabric).await;
    let replay = fabric.owner.rap(&["audit", "replay", "-o", "json"]).await.json();
    assert_eq!(replay["equal"], true, "{replay}");
}

async fn people_without_a_policy(fabric: &Fabric) {
    step("no policy, wrong organization");
    let listed = fabric.carol.rap(&["ls"]).await.ok();
    assert!(!listed.contains("demo"), "{listed}");
    let said = fabric.carol.rap(&["connect", "demo-web"]).await.fails(4);
    assert!(said.contains("polic"), "{said}");
    denial(fabric, "carol").await;
    // A stranger is told the same whether the resource exists or not.
    let foreign = ["--organization", "acme", "connect"];
    let mut said = Vec::new();
    for name in ["demo-web", "no-such-thing"] {
        let run = fabric.bob.rap(&[foreign.as_slice(), &[name]].concat()).await;
        assert!(matches!(run.code, 4 | 5), "{run}");
        said.push((run.code, run.stderr.replace(name, "NAME")));
    }
    assert_eq!(said[0], said[1]);
    strangers_requests(fabric, "bob", said.len()).await;
    fabric.bob.rap(&["connect", "demo-web"]).await.fails(4);
}

/// Each request where there is nothing to ask for is on the stranger's own record, and says no
/// more of what was asked for than the stranger was told.
async fn strangers_requests(fabric: &Fabric, user: &str, number: usize) {
    let id = user_id(fabric, user).await;
    let recorded = |event: &Value| event["type"] == "user.access_refused" && event["stream"] == *id;
    let events = rap_e2e::until("the stranger's requests are on record", PATIENCE, async || {
        let found: Vec<_> = fabric.audit().await.into_iter().filter(&recorded).collect();
        (found.len() >= number).then_some(found)
    })
    .await;
    assert_eq!(events.len(), number, "{events:?}");
    for event in events {
        assert_eq!(event["payload"]["action"], "request_session", "{event}");
        assert_eq!(event["actor"]["user"], *id, "{event}");
        assert!(event["organization"].is_null(), "{event}");
        assert!(!event.to_string().contains("demo-web"), "{event}");
    }
}

async fn user_id(fabric: &Fabric, user: &str) -> String {
    let shown = fabric.owner.rap(&["user", "get", user, "-o", "json"]).await.json();
    shown["id"].as_str().unwrap().to_owned()
}

async fn denial(fabric: &Fabric, user: &str) {
    let id = user_id(fabric, user).await;
    let denied =
        |event: &Value| event["type"] == "session.denied" && event.to_string().contains(&id);
    fabric.event("the denial is on record", denied).await;
}

async fn tokens_that_are_not_theirs(fabric: &Fabric) {
    step("expired token, token on another key, token of another signer");
    let words = ["token", "api", "create", "tickets", "--scope", "connect", "-o", "json"];
    let created = fabric.alice.rap(&words).await.json();
    let bearer = created["secret"].as_str().unwrap();
    let genuine = Ticket::request(fabric, bearer, "demo-web").await;
    let control = ticket::control_key(fabric);

    let other_key = genuine.with_key(ticket::key(200));
    let expired = genuine.forged(fabric, &control, |claims| {
        let hour = Duration::from_secs(3600);
        claims.not_before = claims.not_before - hour;
        claims.connect_by = claims.connect_by - hour;
        claims.expires_at = claims.expires_at - hour;
    });
    let foreign = genuine.forged(fabric, &ticket::key(201), |_| {});
    for (ticket, code) in [
        (other_key, RefusalCode::TokenWrongKey),
        (expired, RefusalCode::TokenExpired),
        (foreign, RefusalCode::TokenUntrusted),
    ] {
        assert_eq!(ticket.show(fabric).await, Shown::RefusedByEntry(code));
        refusal(fabric, code).await;
    }
    assert_eq!(genuine.show(fabric).await, Shown::Opened);
}

/// Waits until a node's refusal with this code is in the log.
async fn refusal(fabric: &Fabric, code: RefusalCode) {
    let refused = |event: &Value| {
        let kind = event["type"].as_str().unwrap_or_default();
        kind.ends_with(".access_refused") && event["payload"].to_string().contains(code.as_str())
    };
    fabric.event(&format!("the refusal {code} is on record"), refused).await;
}

async fn two_hosts_with_one_join_token(fabric: &Fabric) {
    step("one join token, two hosts at once");
    let before = nodes(fabric).await.len();
    let line = fabric.join_line(&fabric.owner, &["--role", "relay-node", "--auto-approve"]).await;
    let host = async |space: Space, name: &str| {
        let state = fabric.scratch().join(name).to_string_lossy().into_owned();
        let address = format!("{}:4999", space.address());
        let own = ["--name", name, "--listen", &address, "--advertise", &address];
        let line = line.iter().map(String::as_str);
        let words: Vec<_> = line.chain(own).chain(["--state-dir", &state]).collect();
        fabric.node_agent(space, &words).await
    };
    let (one, other) = join(host(Space::Relay, "first"), host(Space::Egress, "second")).await;
    let first_won = one.code == 0;
    let (winner, loser) = if first_won { (one, other) } else { (other, one) };
    winner.ok();
    assert_ne!(loser.code, 0, "{loser}");
    assert!(loser.stderr.contains("token"), "{loser}");
    let after = nodes(fabric).await;
    assert_eq!(after.len(), before + 1, "{after:?}");
    let used =
        fabric.audit().await.iter().filter(|event| event["type"] == "join_token.used").count();
    assert_eq!(used, before + 1, "each token was used once");
    let loser = if first_won { "second" } else { "first" };
    let refused = |event: &Value| event["type"] == "join_token.use_refused";
    let event = fabric.event("the refused use is on record", refused).await;
    assert_eq!(event["payload"], json!({ "reason": "used", "name": loser }), "{event}");
}

async fn a_node_without_its_role(fabric: &Fabric) {
    step("unassigned role");
    let words = ["token", "api", "create", "roles", "--scope", "connect", "-o", "json"];
    let bearer = fabric.alice.rap(&words).await.json();
    let bearer = bearer["secret"].as_str().unwrap();
    // An egress without a role is none of the nodes that the entry knows.
    let nodes = [
        (&fabric.owner, "entry", "entry-node", RefusalCode::RoleNotAssigned),
        (&fabric.ada, "egress", "stream-worker@acme", RefusalCode::PeerNotTrusted),
    ];
    for (person, name, role, code) in nodes {
        let ticket = Ticket::request(fabric, bearer, "demo-web").await;
        person.rap(&["node", "roles", name, "--none"]).await.ok();
        fabric.settle().await;
        let shown = ticket.show(fabric).await;
        let expected = [Shown::RefusedByEntry(code), Shown::RefusedChannel(code)];
        assert!(expected.contains(&shown), "{name}: {shown:?}");
        refusal(fabric, code).await;
        person.rap(&["node", "roles", name, role]).await.ok();
        fabric.settle().await;
    }
    assert_eq!(ssh(fabric, &fabric.alice, "echo again").await.ok(), "again\n");
}

async fn snapshots_that_were_meddled_with(fabric: &mut Fabric) {
    step("older snapshot, tampered snapshot");
    let state = fabric.agent_state(Space::Egress);
    let manifest = state.join("manifest");
    let older = fs::read(&manifest).unwrap();
    let sections = fabric.scratch().join("older-sections");
    copy_files(&state.join("sections"), &sections);
    let words = [
        "resource",
        "create",
        "more",
        "--kind",
        "tcp",
        "--target",
        "10.91.0.6:9",
        "--pool",
        "office",
    ];
    fabric.ada.rap(&words).await.ok();
    fabric.settle().await;
    assert_ne!(fs::read(&manifest).unwrap(), older);

    fabric.agent(Space::Egress).stop(PATIENCE).await;
    fs::write(&manifest, &older).unwrap();
    copy_files(&sections, &state.join("sections"));
    fabric.start_agent(Space::Egress);
    snapshot_refusal(fabric, "rollback").await;
    works_again(fabric, &manifest, &older).await;

    fabric.agent(Space::Egress).stop(PATIENCE).await;
    let tampered = tamper(&fs::read(&manifest).unwrap());
    fs::write(&manifest, &tampered).unwrap();
    fabric.start_agent(Space::Egress);
    snapshot_refusal(fabric, "not_trusted").await;
    works_again(fabric, &manifest, &tampered).await;
}

/// A manifest's file with another signature, and the checksum that belongs to it.
fn tamper(file: &[u8]) -> Vec<u8> {
    let mut held: HeldManifest = record::decode(file).unwrap();
    *held.manifest.last_mut().unwrap() ^= 1;
    record::encode(&held)
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

async fn snapshot_refusal(fabric: &Fabric, code: &str) {
    let refused = |event: &Value| {
        event["type"] == "node_report.snapshot_refused"
            && event["payload"].to_string().contains(code)
    };
    fabric.event("the refused snapshot is on record", refused).await;
}

/// The node got a genuine snapshot from control and serves again.
async fn works_again(fabric: &Fabric, manifest: &Path, refused: &[u8]) {
    rap_e2e::until("the egress serves again", PATIENCE, async || {
        (ssh(fabric, &fabric.alice, "echo again").await.code == 0).then_some(())
    })
    .await;
    assert_ne!(fs::read(manifest).unwrap(), refused);
}

async fn a_revoked_node(fabric: &mut Fabric) {
    step("revoked node");
    let mut words = super::ssh_words(fabric);
    words.push("cat".to_owned());
    let mut talk = fabric.alice.talk("rap", &words);
    talk.type_line("one").await;
    assert_eq!(talk.line(PATIENCE).await.as_deref(), Some("one"));
    fabric.owner.rap(&["node", "revoke", "egress", "--reason", "a test"]).await.ok();
    assert_eq!(talk.line(PATIENCE).await, None, "its connections are closed");
    talk.finish(PATIENCE).await.fails(255);
    let said = fabric.alice.rap(&["connect", "demo-web"]).await;
    assert!(said.code != 0 && !said.stderr.is_empty(), "{said}");
    fabric.event("the revocation is on record", |event| event["type"] == "node.revoked").await;
    // It is told so, and does not come back.
    let state = fabric.agent_state(Space::Egress).to_string_lossy().into_owned();
    rap_e2e::until("the agent knows that it was revoked", PATIENCE, async || {
        let status = fabric.node_agent(Space::Egress, &["status", "--state-dir", &state]).await;
        (status.stdout + &status.stderr).contains("revoked").then_some(())
    })
    .await;
}

async fn nodes(fabric: &Fabric) -> Vec<Value> {
    rap_e2e::items(&fabric.owner.rap(&["node", "ls", "-o", "json"]).await.json())
}

/// How many requests the office's web server has answered.
fn requests_to_the_office(fabric: &Fabric) -> usize {
    fs::read_to_string(fabric.office().web_log()).unwrap_or_default().lines().count()
}
