//! A way that no single relay leads: the entry reaches one of them, and the other the egress.

use std::time::Duration;

use rap_e2e::{Fabric, Space, Talk, until};

use super::{ssh, ssh_words, step};

const PATIENCE: Duration = Duration::from_secs(60);
/// The legs of the only way.
const LEGS: [(Space, Space); 3] = [
    (Space::Entry, Space::Relay),
    (Space::Relay, Space::Spare),
    (Space::Spare, Space::Egress),
];
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
    let talk = begin(&fabric).await;
    for relay in [Space::Relay, Space::Spare] {
        assert!(relayed(&fabric, relay).await > 0, "{relay:?} carries nothing");
    }
    why_names_both(&fabric).await;
    assert_eq!(ssh(&fabric, &fabric.alice, "uname -a").await.ok(), kernel);
    talk.finish(PATIENCE).await.ok();

    step("two relays on tcp");
    for (from, to) in LEGS {
        fabric.lab().block(from, to, "udp").unwrap();
    }
    until("nothing is left on QUIC", PATIENCE, async || {
        let left = relayed(&fabric, Space::Relay).await + relayed(&fabric, Space::Spare).await;
        (left == 0).then_some(())
    })
    .await;
    let talk = begin(&fabric).await;
    let status = fabric.agent_status(Space::Entry).await.expect("the entry lives");
    assert_eq!(status["mesh"]["tcpFlows"], 1, "{status}");
    for relay in [Space::Relay, Space::Spare] {
        assert_eq!(relayed(&fabric, relay).await, 1, "{relay:?}");
    }
    assert_eq!(ssh(&fabric, &fabric.alice, "uname -a").await.ok(), kernel);
    talk.finish(PATIENCE).await.ok();
}

/// The platform's owner learns of the way from control, and whoever is on the entry from its agent.
async fn why_names_both(fabric: &Fabric) {
    let asked = fabric.owner.rap(&["why", "egress", "--from", "entry"]).await.ok();
    assert!(asked.contains("through relay, then spare, as no"), "{asked}");
    let asked = fabric.owner.rap(&["why", "egress", "-o", "json"]).await.json();
    let lane = &asked[0]["lanes"][0];
    let [relay, spare, egress] = [Space::Relay, Space::Spare, Space::Egress].map(|at| id(fabric, at));
    let (relay, spare, egress) = (relay.await, spare.await, egress.await);
    assert_eq!(lane["relay"], relay.as_str(), "{asked}");
    assert_eq!(lane["onward"], serde_json::json!([spare]), "{asked}");
    let state = fabric.agent_state(Space::Entry).to_string_lossy().into_owned();
    let words = ["why", &egress, "--state-dir", &state];
    let said = fabric.node_agent(Space::Entry, &words).await.ok();
    assert!(said.contains(&format!("relayed through {relay}, then {spare}: no")), "{said}");
}

/// A shell's loop in the office that has answered once.
async fn begin(fabric: &Fabric) -> Talk {
    let mut words = ssh_words(fabric);
    words.push("while read line; do echo \"heard $line\"; done".to_owned());
    let mut talk = fabric.alice.talk("rap", &words);
    talk.type_line("first").await;
    assert_eq!(talk.line(PATIENCE).await.as_deref(), Some("heard first"));
    talk
}

async fn relayed(fabric: &Fabric, at: Space) -> u64 {
    let status = fabric.agent_status(at).await.expect("the relay lives");
    status["mesh"]["relayedFlows"].as_u64().expect("a relay counts them")
}

async fn id(fabric: &Fabric, at: Space) -> String {
    let status = fabric.agent_status(at).await.expect("the node lives");
    status["node"].as_str().expect("it has joined").to_owned()
}
