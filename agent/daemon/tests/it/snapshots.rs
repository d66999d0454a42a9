//! What a node acts on, what it refuses, and what it does when nobody can be asked.

use std::{fs, time::Duration};

use rap_node_agent::{AgentState, RunError, start};
use rap_proto::{
    ClusterId, NodeId,
    bus::Heartbeat,
    observation::{Observation, SnapshotRefusal},
};

use crate::control::{Control, Making, PATIENCE, now, random_key, report, until};

fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn version(agent: &rap_node_agent::RunningAgent) -> u64 {
    report(agent).snapshot.map_or(0, |snapshot| snapshot.version)
}

#[test]
fn a_doorbell_brings_the_next_snapshot_at_once() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        until("the bus is there", || report(&agent).bus_connected).await;
        control.offer(3, control.making(3).bundle()).await;
        until("version 3 is applied", || version(&agent) == 3).await;
        until("the mesh listens", || report(&agent).mesh.listening.is_some()).await;
        assert_eq!(report(&agent).state, AgentState::Running);
        control.offer(4, control.making(4).bundle()).await;
        until("version 4 is applied", || version(&agent) == 4).await;
        let digest = report(&agent).snapshot.map(|snapshot| snapshot.digest);
        until("a heartbeat says so", || {
            let desk = control.desk();
            desk.heartbeats
                .last()
                .is_some_and(|beat| (beat.snapshot_version, beat.snapshot_digest) == (4, digest))
        })
        .await;
        let said_nothing = |beat: &Heartbeat| beat.capabilities.is_empty();
        assert!(!control.desk().heartbeats.iter().any(said_nothing));
        agent.stop().await.unwrap();
    });
}

#[test]
fn a_false_doorbell_is_not_heard() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        control.offer(3, control.making(3).bundle()).await;
        until("version 3 is applied", || version(&agent) == 3).await;
        let before = control.desk().snapshot_requests;
        control.desk().snapshot = Some((4, control.making(4).bundle()));
        for _ in 0..5 {
            control.ring_falsely(4).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(control.desk().snapshot_requests, before);
        control.ring(4).await;
        until("version 4 is applied", || version(&agent) == 4).await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn wrong_snapshots_are_refused_with_their_reason_and_observed() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        control.offer(5, control.making(5).bundle()).await;
        until("version 5 is applied", || version(&agent) == 5).await;
        let change = |version: u64, change: fn(&mut Making)| {
            let mut making = control.making(version);
            change(&mut making);
            making.bundle()
        };
        let mut tampered = change(12, |m| m.assignment.draining = true);
        *tampered.sections[0].last_mut().unwrap() ^= 1;
        let cases = [
            (6, change(6, |m| m.signer = random_key()), SnapshotRefusal::NotTrusted),
            (
                7,
                change(7, |m| m.manifest.cluster = ClusterId::from_u128(9)),
                SnapshotRefusal::WrongCluster,
            ),
            (8, change(8, |m| m.manifest.node = NodeId::from_u128(9)), SnapshotRefusal::WrongNode),
            (
                9,
                change(9, |m| m.manifest.expires_at = now() - Duration::from_secs(60)),
                SnapshotRefusal::Expired,
            ),
            (10, change(4, |_| {}), SnapshotRefusal::Rollback),
            (11, change(5, |m| m.assignment.draining = true), SnapshotRefusal::Equivocation),
            (12, tampered, SnapshotRefusal::MissingSection),
        ];
        let expected: Vec<SnapshotRefusal> = cases.iter().map(|(_, _, code)| *code).collect();
        for (seen, (ring, bundle, code)) in cases.into_iter().enumerate() {
            control.offer(ring, bundle).await;
            until(code.as_str(), || control.observed().len() == seen + 1).await;
            assert_eq!(version(&agent), 5, "{code}: nothing changed");
        }
        let codes: Vec<SnapshotRefusal> = control
            .observed()
            .into_iter()
            .filter_map(|observation| match observation {
                Observation::SnapshotRefused { code, .. } => Some(code),
                _ => None,
            })
            .collect();
        assert_eq!(codes, expected);
        control.offer(13, control.making(13).bundle()).await;
        until("a good one is still taken", || version(&agent) == 13).await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn without_control_the_node_goes_on_and_starts_again_from_its_disk() {
    multi().block_on(async {
        let mut control = Control::start().await;
        let agent = control.agent().await;
        control.offer(3, control.making(3).bundle()).await;
        until("the mesh listens", || report(&agent).mesh.listening.is_some()).await;
        control.go_away().await;
        agent.stop().await.unwrap();

        let agent = control.run().await;
        until("it serves from its disk", || report(&agent).mesh.listening.is_some()).await;
        assert_eq!((report(&agent).state, version(&agent)), (AgentState::Running, 3));
        until("it notices", || report(&agent).control.last_error.is_some()).await;
        control.desk().snapshot = Some((4, control.making(4).bundle()));
        control.come_back().await;
        until("it catches up", || version(&agent) == 4).await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn an_older_state_put_back_is_not_believed_and_a_torn_floor_stops_the_node() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        let root = control.state_dir();
        control.offer(3, control.making(3).bundle()).await;
        until("version 3 is applied", || version(&agent) == 3).await;
        let old = fs::read(root.join("manifest")).unwrap();
        control.offer(4, control.making(4).bundle()).await;
        until("version 4 is applied", || version(&agent) == 4).await;
        agent.stop().await.unwrap();

        // The old manifest with the new floor, and control offers the old version too.
        fs::write(root.join("manifest"), old).unwrap();
        control.desk().snapshot = Some((3, control.making(3).bundle()));
        let agent = control.run().await;
        until("the rollback is observed", || {
            let code = SnapshotRefusal::Rollback;
            control.observed().contains(&Observation::SnapshotRefused { version: 3, code })
        })
        .await;
        assert_eq!(version(&agent), 0);
        agent.stop().await.unwrap();

        let floor = fs::read(root.join("floor")).unwrap();
        fs::write(root.join("floor"), &floor[..floor.len() - 1]).unwrap();
        let mut agent = start(control.run_options()).unwrap();
        let ended = tokio::time::timeout(PATIENCE, agent.ready()).await.unwrap();
        assert!(matches!(ended, Err(RunError::Snapshot(_))));
    });
}

#[test]
fn a_snapshot_that_ran_out_makes_the_node_stale() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        let mut making = control.making(3);
        making.manifest.expires_at = now() + Duration::from_secs(4);
        control.offer(3, making.bundle()).await;
        until("it is applied", || version(&agent) == 3).await;
        until("its life ends", || report(&agent).state == AgentState::Stale).await;
        control.offer(4, control.making(4).bundle()).await;
        until("a newer one revives it", || report(&agent).state == AgentState::Running).await;
        agent.stop().await.unwrap();
    });
}
