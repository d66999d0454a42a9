//! The long run: renewal, observations that must not be lost, revocation, leaving.

use std::time::Duration;

use rap_node_agent::{AgentState, status};
use rap_proto::{observation::Observation, wire::node_api::NodeApiCode};

use crate::control::{Control, random_key, report, until};

fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn the_certificate_is_renewed_at_half_its_life_and_kept() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().certificate_life = Duration::from_secs(6);
        let agent = control.agent().await;
        until("it was renewed twice", || control.desk().renewals >= 2).await;
        until("it is in use", || {
            report(&agent).certificate.is_some_and(|certificate| certificate.renewal >= 2)
        })
        .await;
        control.desk().certificate_life = Duration::from_secs(3_600);
        let renewals = control.desk().renewals;
        until("a long one came", || control.desk().renewals > renewals).await;
        agent.stop().await.unwrap();
        let agent = control.run().await;
        let renewals = control.desk().renewals;
        until("the restart uses it", || {
            report(&agent).certificate.is_some_and(|certificate| certificate.renewal == renewals)
        })
        .await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn a_certificate_gives_way_to_none_of_an_earlier_authority() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().certificate_life = Duration::from_secs(8);
        control.desk().authority_epoch = 2;
        rap_node_agent::join(control.join_options(), |_, _| {}).await.unwrap();
        control.desk().authority_epoch = 1;
        let agent = control.run().await;
        until("it was answered by the earlier one", || !control.desk().renewed.is_empty()).await;
        control.desk().authority_epoch = 3;
        let next = || control.desk().renewed.iter().copied().find(|epoch| *epoch != 2);
        until("it renews what it has", || next().is_some()).await;
        assert_eq!(next(), Some(3));
        agent.stop().await.unwrap();
    });
}

#[test]
fn a_certificate_that_ran_out_is_recovered_by_the_identity_key() {
    multi().block_on(async {
        let mut control = Control::start().await;
        control.desk().certificate_life = Duration::from_secs(1);
        let agent = control.agent().await;
        control.go_away().await;
        agent.stop().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        control.desk().certificate_life = Duration::from_secs(3_600);
        control.come_back().await;
        let polls = control.desk().polls;
        let agent = control.run().await;
        until("it asks by its key", || control.desk().polls > polls).await;
        control.offer(3, control.making(3).bundle()).await;
        until("it works again", || report(&agent).state == AgentState::Running).await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn observations_are_sent_again_until_they_are_recorded() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().records = false;
        let agent = control.agent().await;
        until("the bus is there", || report(&agent).bus_connected).await;
        let mut making = control.making(3);
        making.signer = random_key();
        control.offer(3, making.bundle()).await;
        until("it was sent", || control.desk().observations.len() == 1).await;
        assert_eq!(report(&agent).spool.waiting, 1);
        agent.stop().await.unwrap();

        // It survives the agent, and is sent again until control confirms.
        control.desk().snapshot = None;
        let agent = control.run().await;
        until("it was sent again", || control.desk().repeated > 0).await;
        control.desk().records = true;
        until("it is confirmed", || report(&agent).spool.waiting == 0).await;
        assert!(matches!(control.observed()[..], [Observation::SnapshotRefused { .. }]));
        agent.stop().await.unwrap();
    });
}

#[test]
fn a_revocation_by_control_is_obeyed_and_remembered() {
    multi().block_on(async {
        let mut control = Control::start().await;
        let agent = control.agent().await;
        control.offer(3, control.making(3).bundle()).await;
        until("the mesh listens", || report(&agent).mesh.listening.is_some()).await;
        control.desk().refuses = Some(NodeApiCode::Revoked);
        control.ring(4).await;
        until("it stops serving", || {
            let report = report(&agent);
            report.state == AgentState::Revoked && report.mesh.listening.is_none()
        })
        .await;
        agent.stop().await.unwrap();

        control.go_away().await;
        let agent = control.run().await;
        until("it still knows", || report(&agent).state == AgentState::Revoked).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(report(&agent).mesh.listening, None);
        agent.stop().await.unwrap();
    });
}

#[test]
fn a_revocation_by_the_deny_list_is_obeyed() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        let mut making = control.making(3);
        making.trust.denied_nodes.insert(control.node());
        control.offer(3, making.bundle()).await;
        until("it stops", || report(&agent).state == AgentState::Revoked).await;
        until("the port is closed", || report(&agent).mesh.listening.is_none()).await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn the_status_socket_answers_its_own_user() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        control.offer(3, control.making(3).bundle()).await;
        until("it runs", || report(&agent).state == AgentState::Running).await;
        let asked = status(&control.state_dir()).await.unwrap();
        assert_eq!(asked.node, Some(control.node()));
        assert_eq!(asked.snapshot.unwrap().version, 3);
        agent.stop().await.unwrap();
        status(&control.state_dir()).await.unwrap_err();
    });
}

#[test]
fn leaving_is_announced_and_bounded() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        control.offer(3, control.making(3).bundle()).await;
        until("it runs", || report(&agent).state == AgentState::Running).await;
        until("it beats", || !control.desk().heartbeats.is_empty()).await;
        let asked = std::time::Instant::now();
        agent.stop().await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(10));
        until("control heard of it", || {
            control.desk().heartbeats.last().is_some_and(|beat| beat.draining)
        })
        .await;
    });
}

#[test]
fn several_agents_share_one_process() {
    multi().block_on(async {
        let (first, second) = (Control::start().await, Control::start().await);
        let (one, two) = (first.agent().await, second.agent().await);
        first.offer(3, first.making(3).bundle()).await;
        second.offer(8, second.making(8).bundle()).await;
        let version = |agent| {
            report(agent).snapshot.map(|snapshot: rap_node_agent::SnapshotStatus| snapshot.version)
        };
        until("each has its own", || version(&one) == Some(3) && version(&two) == Some(8)).await;
        one.stop().await.unwrap();
        assert_eq!(report(&two).state, AgentState::Running);
        two.stop().await.unwrap();
    });
}

#[test]
fn over_nats_the_node_has_its_own_token_and_outlives_the_server() {
    multi().block_on(async {
        let mut control = Control::start_with_nats().await;
        control.desk().records = false;
        let agent = control.agent().await;
        until("it is connected", || report(&agent).bus_connected).await;
        control.offer(3, control.making(3).bundle()).await;
        until("the doorbell was heard", || report(&agent).state == AgentState::Running).await;
        until("it beats", || !control.desk().heartbeats.is_empty()).await;
        let mut wrong = control.making(4);
        wrong.signer = random_key();
        control.offer(4, wrong.bundle()).await;
        until("it was observed", || control.desk().observations.len() == 1).await;

        control.go_away().await;
        until("it notices", || !report(&agent).bus_connected).await;
        assert_eq!(report(&agent).state, AgentState::Running, "and goes on");
        assert_eq!(report(&agent).spool.waiting, 1);
        control.desk().snapshot = None;
        control.desk().records = true;
        control.come_back().await;
        until("nothing was lost", || report(&agent).spool.waiting == 0).await;
        assert!(control.desk().repeated > 0);
        agent.stop().await.unwrap();
    });
}
