//! Ways that no single relay leads: the entry reaches one of them, and another one the egress.

use std::{fs, time::Duration};

use rap_e2e::{Fabric, Space, holds, until};

use super::{
    echo,
    everyday::{forward, ssh_config},
    ssh, step,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// The legs of the only way.
const LEGS: [(Space, Space); 3] =
    [(Space::Entry, Space::Relay), (Space::Relay, Space::Spare), (Space::Spare, Space::Egress)];
/// What would make it shorter.
const CUT: [(Space, Space); 2] = [(Space::Entry, Space::Spare), (Space::Relay, Space::Egress)];
/// The cables that would make a way over three relays shorter.
const UNPLUGGED: [(Space, Space); 3] =
    [(Space::Entry, Space::Spare), (Space::Relay, Space::Egress), (Space::Spare, Space::Egress)];
const RELAYS: [Space; 3] = [Space::Relay, Space::Spare, Space::Third];
const FILE_MIB: &str = "16";
/// What no program holds unless somebody sent it.
const MARKER: &str = "a-marker-that-passes-three-relays";

#[tokio::test]
async fn a_command_runs_through_two_relays_on_quic_and_on_tcp_and_why_says_so() {
    let test = "chain::a_command_runs_through_two_relays_on_quic_and_on_tcp_and_why_says_so";
    let Some(mut fabric) = super::fabric(test).await else { return };
    fabric.add_relay().await;
    for (from, to) in CUT {
        for protocol in ["udp", "tcp"] {
            fabric.lab().block(from, to, protocol).unwrap();
        }
    }
    let kernel = fabric.alice.run("uname", &["-a"]).await.ok();

    step("two relays on QUIC");
    let talk = echo(&fabric).await;
    until("both relays carry it", PATIENCE, async || {
        let (one, other) = relayed(&fabric).await;
        (one > 0 && other > 0).then_some(())
    })
    .await;
    why_names_both(&fabric).await;
    assert_eq!(ssh(&fabric, &fabric.alice, "uname -a").await.ok(), kernel);
    talk.finish(PATIENCE).await.ok();

    step("two relays on tcp");
    for (from, to) in LEGS {
        fabric.lab().block(from, to, "udp").unwrap();
    }
    until("nothing is left on QUIC", PATIENCE, async || {
        (relayed(&fabric).await == (0, 0)).then_some(())
    })
    .await;
    let talk = echo(&fabric).await;
    until("both relays carry one flow of the entry's on tcp", PATIENCE, async || {
        let flows = fabric.agent_status(Space::Entry).await?["mesh"]["tcpFlows"].as_u64();
        (flows == Some(1) && relayed(&fabric).await == (1, 1)).then_some(())
    })
    .await;
    assert_eq!(ssh(&fabric, &fabric.alice, "uname -a").await.ok(), kernel);
    talk.finish(PATIENCE).await.ok();
}

#[tokio::test]
async fn a_copy_passes_three_relays_that_stand_in_a_row() {
    let test = "chain::a_copy_passes_three_relays_that_stand_in_a_row";
    let Some(mut fabric) = super::fabric(test).await else { return };
    fabric.add_relay().await;
    fabric.add_third_relay().await;
    for (from, to) in UNPLUGGED {
        fabric.lab().unplug(from, to).unwrap();
    }

    step("one way is left");
    let talk = echo(&fabric).await;
    let ids =
        [id(&fabric, RELAYS[0]).await, id(&fabric, RELAYS[1]).await, id(&fabric, RELAYS[2]).await];
    until("the entry's lanes go over all three", PATIENCE, async || {
        let status = fabric.agent_status(Space::Entry).await?;
        let lanes = status["mesh"]["lanes"].as_array()?;
        let whole = |lane: &serde_json::Value| {
            lane["relay"] == ids[0].as_str() && lane["onward"] == serde_json::json!(ids[1..])
        };
        (!lanes.is_empty() && lanes.iter().all(whole)).then_some(())
    })
    .await;
    let kernel = fabric.alice.run("uname", &["-a"]).await.ok();
    assert_eq!(ssh(&fabric, &fabric.alice, "uname -a").await.ok(), kernel);

    step("a copy there and back");
    let config = ssh_config(&fabric).await;
    let (sent, back) = (fabric.scratch().join("sent"), fabric.scratch().join("back"));
    let there = fabric.office().files().join("over-three");
    let (target, count) = (format!("of={}", sent.display()), format!("count={FILE_MIB}"));
    let words = ["if=/dev/urandom", "bs=1M", "status=none", &target, &count];
    fabric.alice.run("dd", &words).await.ok();
    let remote = format!("demo-ssh.rap:{}", there.display());
    let (near, far) = (sent.to_string_lossy(), back.to_string_lossy());
    fabric.alice.run("scp", &["-q", "-F", &config, &near, &remote]).await.ok();
    fabric.alice.run("scp", &["-q", "-F", &config, &remote, &far]).await.ok();
    let bytes = fs::read(&sent).unwrap();
    assert!(fs::read(&there).unwrap() == bytes && fs::read(&back).unwrap() == bytes);

    step("no relay holds what passes");
    let (_connect, url) = forward(&fabric, "demo-web").await;
    let header = format!("X-Marker: {MARKER}");
    for _ in 0..20 {
        fabric.alice.run("curl", &["-sSf", "-H", &header, &url]).await.ok();
    }
    let found = |at| holds(fabric.agent_process(at), MARKER.as_bytes()).unwrap();
    assert!(found(Space::Egress), "or nothing is found anywhere");
    assert_eq!(RELAYS.map(found), [false; 3]);
    talk.finish(PATIENCE).await.ok();
}

/// The platform's owner learns of the way from control, and whoever is on the entry from its agent.
async fn why_names_both(fabric: &Fabric) {
    until("the entry says by which way it goes", PATIENCE, async || {
        let status = fabric.agent_status(Space::Entry).await?;
        status["mesh"]["lanes"].get(0).is_some().then_some(())
    })
    .await;
    let asked = fabric.owner.rap(&["why", "egress", "--from", "entry"]).await.ok();
    assert!(asked.contains("through relay, then spare, as it answered first"), "{asked}");
    let asked = fabric.owner.rap(&["why", "egress", "-o", "json"]).await.json();
    let lane = &asked[0]["lanes"][0];
    let [relay, spare, egress] =
        [Space::Relay, Space::Spare, Space::Egress].map(|at| id(fabric, at));
    let (relay, spare, egress) = (relay.await, spare.await, egress.await);
    assert_eq!(lane["relay"], relay.as_str(), "{asked}");
    assert_eq!(lane["onward"], serde_json::json!([spare]), "{asked}");
    let state = fabric.agent_state(Space::Entry).to_string_lossy().into_owned();
    let words = ["why", &egress, "--state-dir", &state];
    let said = fabric.node_agent(Space::Entry, &words).await.ok();
    assert!(
        said.contains(&format!("relayed through {relay}, then {spare}: it answered first")),
        "{said}"
    );
}

/// The flows of the two relays.
async fn relayed(fabric: &Fabric) -> (u64, u64) {
    let flows = async |at| {
        let status = fabric.agent_status(at).await.expect("the relay lives");
        status["mesh"]["relayedFlows"].as_u64().expect("a relay counts them")
    };
    (flows(Space::Relay).await, flows(Space::Spare).await)
}

async fn id(fabric: &Fabric, at: Space) -> String {
    let status = fabric.agent_status(at).await.expect("the node lives");
    status["node"].as_str().expect("it has joined").to_owned()
}
