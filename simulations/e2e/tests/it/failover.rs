//! The database fails over to a standby that lacks the last events, which nodes have seen.

use std::{collections::BTreeSet, fs, time::Duration};

use rap_e2e::{FIRST, Fabric, Heard, NODES, Recorder, Talk, until};
use rap_proto::Generation;

use super::{echo, ssh, step};

const RECORDER_PORT: u16 = 4500;
/// Nodes ask for the newest tree head about once a minute, within a third.
const PATIENCE: Duration = Duration::from_secs(100);
/// What an echo may take while nothing is wrong with the realtime plane.
const ECHO: Duration = Duration::from_secs(2);
/// What an agent keeps of the log that it saw, and an operator removes who gives it up.
const KEPT: [&str; 2] = ["tree_head", "beat"];

/// What was acknowledged and then lost.
struct Lost {
    /// The position of the newest event.
    head: u64,
    /// Who carried the connection last.
    held: Heard,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_refuse_a_log_that_lost_what_they_saw_until_an_operator_goes_on_without_it() {
    let test =
        "failover::nodes_refuse_a_log_that_lost_what_they_saw_until_an_operator_goes_on_without_it";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let mut fabric = match Fabric::start_recording(RECORDER_PORT).await {
        Ok(fabric) => fabric,
        Err(reason) => return super::skip(test, &reason),
    };
    let recorder = Recorder::listen(fabric.lab(), &NODES, RECORDER_PORT);
    connect(&fabric).await;
    recorder.above(Generation::NONE, PATIENCE).await;
    let mut kept = echo(&fabric).await;

    step("the standby is cut off, and the log goes on");
    fabric.add_standby().await;
    let lost = lose(&mut fabric, &recorder).await;
    step("nodes see it");
    for space in NODES {
        until(&format!("{space:?} saw {} events", lost.head), PATIENCE, async || {
            let status = fabric.agent_status(space).await?;
            (status["log"]["size"].as_u64()? >= lost.head).then_some(())
        })
        .await;
    }

    step("the database fails over");
    fabric.fail_over().await;
    is_frozen(&fabric, "the log went back").await;
    for space in NODES {
        until(&format!("{space:?} is suspended"), PATIENCE, async || {
            let status = fabric.agent_status(space).await?;
            (status["state"] == "suspended" && status["log"]["refuted"].is_string()).then_some(())
        })
        .await;
    }
    echoes(&mut kept, "suspended").await;

    step("control is started again, as it asks for");
    fabric.stop_replica(FIRST).await;
    fabric.start_replica(FIRST).await;
    is_frozen(&fabric, "not the one that nodes saw").await;
    echoes(&mut kept, "frozen").await;
    is_lost(&fabric).await;

    step("an operator goes on without what was lost");
    go_on(&mut fabric).await;
    catch_up(&fabric, lost.head).await;
    assert_eq!(ssh(&fabric, &fabric.alice, "echo back").await.ok(), "back\n");
    let new = recorder.above(lost.held.generation, PATIENCE).await;
    step(&format!(
        "the connection was held under {}, and now under {}",
        lost.held.generation, new.generation
    ));
    assert_eq!(recorder.take_late(), []);
    nodes_told(&fabric).await;
    let replay = fabric.owner.rap(&["audit", "replay", "-o", "json"]).await.json();
    assert_eq!(replay["equal"], true, "{replay}");
}

/// A connection that the relay and the egress may carry.
async fn connect(fabric: &Fabric) {
    let words = ["node", "roles", "relay", "relay-node", "vpn-connector@acme"];
    fabric.owner.rap(&words).await.ok();
    let words = ["node", "roles", "egress", "stream-worker@acme", "vpn-connector@acme"];
    fabric.ada.rap(&words).await.ok();
    fabric.ada.rap(&["vpn", "create", "tunnel", "--class", "fast", "--enable"]).await.ok();
}

/// Something is granted, something taken away and the connection moved, all of it acknowledged, while
/// the standby hears nothing.
async fn lose(fabric: &mut Fabric, recorder: &Recorder) -> Lost {
    fabric.cut_off_standby().await;
    let old = recorder.newest().unwrap();
    fabric.ada.rap(&["vpn", "drain", "tunnel"]).await.ok();
    let held = recorder.above(old.generation, PATIENCE).await;
    fabric.ada.rap(&["pool", "create", "late"]).await.ok();
    fabric.owner.rap(&["user", "disable", "carol"]).await.ok();
    fabric.carol.rap(&["ls"]).await.fails(3);
    let head = head(fabric).await;
    Lost { head, held }
}

async fn head(fabric: &Fabric) -> u64 {
    fabric.audit().await.last().unwrap()["position"].as_u64().unwrap()
}

/// Waits until control says why where load balancers ask: then nothing is granted, whoever asks is told so,
/// and reading goes on.
async fn is_frozen(fabric: &Fabric, why: &str) {
    let url = format!("{}/readyz", fabric.control_url());
    until(&format!("control says {why:?}"), PATIENCE, async || {
        fabric.owner.run("curl", &["-sSk", &url]).await.stdout.contains(why).then_some(())
    })
    .await;
    let refused = fabric.owner.rap(&["org", "create", "later", "--owner", "bob"]).await.fails(7);
    assert!(refused.contains("Nothing may be changed now"), "{refused}");
    fabric.alice.rap(&["connect", "demo-web"]).await.fails(7);
    fabric.ada.rap(&["resource", "ls"]).await.ok();
}

/// What was acknowledged is nowhere any more.
async fn is_lost(fabric: &Fabric) {
    let pools = fabric.ada.rap(&["pool", "ls"]).await.ok();
    assert!(!pools.contains("late"), "{pools}");
    fabric.carol.rap(&["ls"]).await.ok();
}

/// As the documentation for operators says.
async fn go_on(fabric: &mut Fabric) {
    fabric.stop_replica(FIRST).await;
    for space in NODES {
        let ended = fabric.agent(space).stop(PATIENCE).await;
        assert!(ended.success(), "{space:?}: {ended}");
        for name in KEPT {
            fs::remove_file(fabric.agent_state(space).join(name)).unwrap();
        }
    }
    fabric.start_replica(FIRST).await;
    for space in NODES {
        fabric.start_agent(space);
    }
    fabric.owner.rap(&["user", "disable", "carol"]).await.ok();
    fabric.carol.rap(&["ls"]).await.fails(3);
    fabric.ada.rap(&["pool", "create", "late"]).await.ok();
    let timeline = until("the loss is told", PATIENCE, async || {
        let loss = fabric.owner.rap(&["vpn", "loss", "-o", "json"]).await.json();
        (loss["heldUp"].as_u64()? > 0).then_some(())?;
        loss["timeline"].as_u64()
    })
    .await;
    fabric.owner.rap(&["vpn", "accept-loss", &timeline.to_string()]).await.ok();
}

/// Snapshots are renewed until the log is longer than it was and every node acts on its newest.
async fn catch_up(fabric: &Fabric, lost: u64) {
    until("the log is longer than it was", PATIENCE, async || {
        fabric.owner.rap(&["node", "renew"]).await.ok();
        (head(fabric).await > lost).then_some(())
    })
    .await;
    fabric.settle().await;
}

/// The log says which nodes refused it.
async fn nodes_told(fabric: &Fabric) {
    until("every node's refusal is in the log", PATIENCE, async || {
        let log = fabric.audit().await;
        let refused = log.iter().filter(|event| event["type"] == "node_report.log_refused");
        let nodes: BTreeSet<_> = refused.map(|event| event["stream"].to_string()).collect();
        (nodes.len() == NODES.len()).then_some(())
    })
    .await;
}

async fn echoes(talk: &mut Talk, word: &str) {
    talk.type_line(word).await;
    assert_eq!(talk.line(ECHO).await, Some(format!("heard {word}")));
}
