//! Three control servers of which two make a quorum: what people and nodes see when they are lost.

mod isolation;

use std::{collections::BTreeMap, time::Duration};

use rap_e2e::{FIRST, Fabric, NODES, Person, Space, Talk, until};
use serde_json::{Value, json};

use super::{echo, everyday::forward, ssh, step};
use isolation::Open;

const SECOND: u16 = 1;
const THIRD: u16 = 2;
const REPLICAS: [u16; 3] = [FIRST, SECOND, THIRD];
const RECORDER_PORT: u16 = 4500;
const CHANGED: &str = "node_report.authority_changed";
/// A beat is valid for 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// What an echo may take while nothing is wrong with the realtime plane.
const ECHO: Duration = Duration::from_secs(2);

/// Who asks while the replicas come and go.
struct Asking {
    /// The platform's owner, logged in at each replica.
    owners: [Person; 3],
    /// An API token of alice's.
    bearer: String,
}

/// Nodes know the first one alone, which is never lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_control_servers_go_on_and_one_alone_only_takes_away() {
    let test = "beats::two_of_three_control_servers_go_on_and_one_alone_only_takes_away";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let mut fabric = match Fabric::start_recording(RECORDER_PORT).await {
        Ok(fabric) => fabric,
        Err(reason) => return super::skip(test, &reason),
    };
    step("three are listed");
    let asking = set(&mut fabric).await;
    all_healthy(&fabric).await;
    for number in REPLICAS {
        asking.changes(number, &format!("three-{number}")).await;
    }
    let mut open = Open::set(&fabric).await;
    let (mut kept, mut ended) = (echo(&fabric).await, echo(&fabric).await);

    step("one is killed");
    let sequence = beat(&fabric).await;
    fabric.kill_replica(THIRD).await;
    // Beats that came later than the end of the last one that three could have signed.
    until("two sign beats", PATIENCE, async || (beat(&fabric).await > sequence + 6).then_some(()))
        .await;
    all_healthy(&fabric).await;
    for number in [FIRST, SECOND] {
        asking.changes(number, &format!("two-{number}")).await;
    }

    step("another is killed");
    fabric.kill_replica(SECOND).await;
    authority(&asking.owners[0], "frozen").await;
    standing(&fabric, "degraded").await;
    is_frozen(&fabric, &asking).await;
    echoes(&mut kept, "degraded").await;
    open.is_degraded(&fabric).await;
    takes_away(&fabric, &mut ended).await;
    let isolations = open.are_isolated(&mut fabric, &mut kept).await;

    step("it is started again");
    fabric.start_replica(SECOND).await;
    authority(&asking.owners[0], "quorum").await;
    all_healthy(&fabric).await;
    for number in [FIRST, SECOND] {
        asking.changes(number, &format!("again-{number}")).await;
    }
    echoes(&mut kept, "healthy").await;
    lapses_are_recorded(&fabric, isolations).await;
    kept.finish(PATIENCE).await.ok();
    assert_eq!(ssh(&fabric, &fabric.alice, "echo back").await.ok(), "back\n");
    let replay = fabric.owner.rap(&["audit", "replay", "-o", "json"]).await.json();
    assert_eq!(replay["equal"], true, "{replay}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_go_on_when_the_control_server_that_they_joined_at_is_lost() {
    let test = "beats::nodes_go_on_when_the_control_server_that_they_joined_at_is_lost";
    let Some(mut fabric) = super::fabric(test).await else { return };
    step("three are listed, and nodes are told of them");
    fabric.tell_servers(&REPLICAS).await;
    for number in [SECOND, THIRD] {
        fabric.add_replica(number).await;
    }
    for number in REPLICAS {
        fabric.list_replica(number).await.ok();
    }
    let owner = fabric.owner_at(SECOND).await;
    authority(&owner, "quorum").await;
    for space in NODES {
        until(&format!("{space:?} knows three"), PATIENCE, async || {
            let counted = fabric.agent_status(space).await?["authority"]["replicas"] == 3;
            (counted && asks(&fabric, space).await.1 == 3).then_some(())
        })
        .await;
    }
    all_healthy(&fabric).await;
    let (alice, lost) = (fabric.alice_anew().await, fabric.replica_url(FIRST));
    let status = alice.rap(&["status", "-o", "json"]).await.json();
    assert_eq!((&status["control"], &status["servers"]), (&json!(lost), &json!(3)), "{status}");

    step("the one that they joined at is killed");
    let sequence = beat(&fabric).await;
    fabric.kill_replica(FIRST).await;
    until("two sign beats", PATIENCE, async || {
        for space in NODES {
            let status = fabric.agent_status(space).await?;
            assert_eq!(status["authority"]["standing"], "healthy", "{space:?}: {status}");
        }
        (beat(&fabric).await > sequence + 7).then_some(())
    })
    .await;
    owner.rap(&["stale", "set", "--platform", "--policy", "stop"]).await.ok();
    until("every node has the newest snapshot", PATIENCE, async || {
        let nodes = rap_e2e::items(&owner.rap(&["node", "ls", "-o", "json"]).await.json());
        for space in NODES {
            let status = fabric.agent_status(space).await?;
            let node = nodes.iter().find(|node| node["id"] == status["node"])?;
            let newest = node["snapshotVersion"].as_u64()?;
            (status["snapshot"]["version"].as_u64()? >= newest).then_some(())?;
        }
        Some(())
    })
    .await;
    for space in NODES {
        let (server, known) = asks(&fabric, space).await;
        assert!(server != lost && known == 3, "{space:?} asks {server} of {known}");
    }
    all_healthy(&fabric).await;

    step("somebody who logged in there goes on as well");
    assert_eq!(ssh(&fabric, &alice, "echo there").await.ok(), "there\n");
    assert!(alice.rap(&["ls"]).await.ok().contains("demo-ssh"));
    let status = alice.rap(&["status", "-o", "json"]).await.json();
    assert!(status["control"] != lost && status["servers"] == 3, "{status}");
}

/// Which control server a node asks, and how many it knows.
async fn asks(fabric: &Fabric, space: Space) -> (String, u64) {
    let status = fabric.agent_status(space).await.unwrap();
    let control = &status["control"];
    (control["server"].as_str().unwrap().to_owned(), control["servers"].as_u64().unwrap())
}

/// Three replicas, and a connection that the egress carries.
async fn set(fabric: &mut Fabric) -> Asking {
    for number in [SECOND, THIRD] {
        fabric.add_replica(number).await;
    }
    for number in REPLICAS {
        fabric.list_replica(number).await.ok();
    }
    let mut owners = Vec::new();
    for number in REPLICAS {
        let owner = fabric.owner_at(number).await;
        authority(&owner, "quorum").await;
        owners.push(owner);
    }
    let words = ["node", "roles", "egress", "stream-worker@acme", "vpn-connector@acme"];
    fabric.ada.rap(&words).await.ok();
    let words = ["vpn", "create", "tunnel", "--class", "fast", "--node", "egress", "--enable"];
    fabric.ada.rap(&words).await.ok();
    carries(fabric, "tunnel", true).await;
    let words = ["token", "api", "create", "beats", "--scope", "connect", "-o", "json"];
    let created = fabric.alice.rap(&words).await.json();
    let bearer = created["secret"].as_str().unwrap().to_owned();
    Asking { owners: owners.try_into().unwrap(), bearer }
}

impl Asking {
    /// Something is granted at one replica and read there.
    async fn changes(&self, number: u16, name: &str) {
        let owner = &self.owners[usize::from(number)];
        owner.rap(&["org", "create", name, "--owner", "bob"]).await.ok();
        owner.rap(&["org", "get", name]).await.ok();
    }
}

/// Whoever asks for more is refused, and told why; reading goes on.
async fn is_frozen(fabric: &Fabric, asking: &Asking) {
    let refused = asking.owners[0].rap(&["org", "create", "alone", "--owner", "bob"]).await;
    let refused = refused.fails(7);
    assert!(refused.contains("too few replicas"), "{refused}");
    fabric.alice.rap(&["connect", "demo-web"]).await.fails(7);
    let url = format!("{}/api/v1/sessions", fabric.control_url());
    let authorization = format!("authorization: Bearer {}", asking.bearer);
    let json = "content-type: application/json";
    let key = "idempotency-key: 0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b";
    let words = ["-sSk", "-w", "\n%{http_code}", "-d", "{}", "-H", &authorization];
    let words = [&words[..], &["-H", json, "-H", key, &url]].concat();
    let answer = fabric.alice.run("curl", &words).await.ok();
    let (body, status) = answer.rsplit_once('\n').unwrap();
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    assert_eq!(status, "503", "{answer}");
    assert_eq!(body["type"], "urn:rap:problem:authority_frozen", "{body}");
    assert_eq!(body["rule"], "no_quorum", "{body}");
    fabric.ada.rap(&["resource", "ls"]).await.ok();
}

/// A session is ended, a connection given up, an account disabled, and somebody logs out.
async fn takes_away(fabric: &Fabric, ended: &mut Talk) {
    let words = ["sessions", "ls", "-o", "json"];
    let sessions = rap_e2e::items(&fabric.alice.rap(&words).await.json());
    // The newest is first.
    let id = sessions[0]["id"].as_str().unwrap();
    fabric.ada.rap(&["sessions", "end", id]).await.ok();
    assert_eq!(ended.line(PATIENCE).await, None, "the session is over");
    carries(fabric, "tunnel", true).await;
    fabric.ada.rap(&["vpn", "disable", "tunnel"]).await.ok();
    carries(fabric, "tunnel", false).await;
    fabric.owner.rap(&["user", "disable", "carol"]).await.ok();
    fabric.carol.rap(&["resource", "ls"]).await.fails(3);
    fabric.bob.rap(&["logout"]).await.ok();
    fabric.bob.rap(&["resource", "ls"]).await.fails(3);
}

async fn authority(owner: &Person, expected: &str) {
    until(&format!("control says {expected}"), PATIENCE, async || {
        let run = owner.rap(&["status", "-o", "json"]).await;
        let status: Value = serde_json::from_str(&run.stdout).ok()?;
        (status["authority"] == expected).then_some(())
    })
    .await;
}

async fn all_healthy(fabric: &Fabric) {
    standing(fabric, "healthy").await;
    for space in NODES {
        let status = fabric.agent_status(space).await.unwrap();
        let counted = (&status["authority"]["replicas"], &status["authority"]["needed"]);
        assert_eq!(counted, (&3.into(), &2.into()), "{status}");
    }
}

/// Waits until every node says this of control's authority.
async fn standing(fabric: &Fabric, expected: &str) {
    for space in NODES {
        until(&format!("{space:?} is {expected}"), PATIENCE, async || {
            let status = fabric.agent_status(space).await?;
            let standing = &status["authority"]["standing"];
            (standing == expected || standing.get(expected).is_some()).then_some(())
        })
        .await;
    }
}

/// Each node told, once control was back, that it was degraded and that it is healthy again, and how
/// often it was isolated.
async fn lapses_are_recorded(fabric: &Fabric, isolations: usize) {
    until("every lapse is in the log", PATIENCE, async || {
        let run = fabric.owner.rap(&["audit", "log", "-o", "json"]).await;
        let events = rap_e2e::items(&serde_json::from_str(&run.stdout).ok()?);
        let mut nodes = BTreeMap::<_, Vec<_>>::new();
        for event in events.iter().filter(|event| event["type"] == CHANGED) {
            let standing = event["payload"]["change"]["standing"].as_str()?.to_owned();
            nodes.entry(event["stream"].as_str()?.to_owned()).or_default().push(standing);
        }
        let whole = |told: &Vec<String>| {
            let isolated = told.iter().filter(|standing| *standing == "isolated").count();
            told.len() >= 2 && told.last().unwrap() == "healthy" && isolated == isolations
        };
        (nodes.len() == NODES.len() && nodes.values().all(whole)).then_some(())
    })
    .await;
}

/// The newest beat that the entry heard.
async fn beat(fabric: &Fabric) -> u64 {
    let status = fabric.agent_status(Space::Entry).await.unwrap();
    status["authority"]["sequence"].as_u64().unwrap()
}

async fn carries(fabric: &Fabric, connection: &str, expected: bool) {
    let what = format!("that the egress carries {connection} is {expected}");
    until(&what, PATIENCE, async || {
        let state = state_of(fabric, connection).await?;
        ((state == "active") == expected).then_some(())
    })
    .await;
}

/// What the egress says of a connection.
async fn state_of(fabric: &Fabric, connection: &str) -> Option<String> {
    let id = fabric.id("vpn", connection).await;
    let status = fabric.agent_status(Space::Egress).await?;
    let mut connections = status["leases"]["connections"].as_array()?.iter();
    let found = connections.find(|one| one["connection"] == *id)?;
    Some(found["state"].as_str()?.to_owned())
}

async fn echoes(talk: &mut Talk, word: &str) {
    talk.type_line(word).await;
    assert_eq!(talk.line(ECHO).await, Some(format!("heard {word}")));
}
