//! A way that no single relay leads: the entry reaches one of them, and the other the egress.

use std::time::Duration;

use rap_e2e::{Fabric, Space, until};

use super::{echo, ssh, step};

const PATIENCE: Duration = Duration::from_secs(60);
/// The legs of the only way.
const LEGS: [(Space, Space); 3] =
    [(Space::Entry, Space::Relay), (Space::Relay, Space::Spare), (Space::Spare, Space::Egress)];
/// What would make it shorter.
const CUT: [(Space, Space); 2] = [(Space::Entry, Space::Spare), (Space::Relay, Space::Egress)];

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
