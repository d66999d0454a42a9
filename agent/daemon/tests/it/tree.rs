//! A node that is shown a rewritten log, by control's own signature.

use rap_node_agent::AgentState;
use rap_proto::{
    Digest,
    observation::{LogRefusal, Observation, SnapshotRefusal},
};

use crate::control::{Control, report, until};

fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn leaves(size: u8, story: u8) -> Vec<Digest> {
    (0..size).map(|n| rap_tlog::leaf_hash(&[n, story])).collect()
}

#[test]
fn a_growing_log_is_kept_over_a_restart() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().log = leaves(5, 0);
        let agent = control.agent().await;
        until("five events are seen", || report(&agent).log.size == 5).await;
        agent.stop().await.unwrap();
        control.desk().log = leaves(9, 0);
        let agent = control.run().await;
        until("nine events are seen", || report(&agent).log.size == 9).await;
        control.offer(3, control.making(3).bundle()).await;
        until("it works", || report(&agent).state == AgentState::Running).await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn a_rewritten_log_ends_the_authority_of_control_for_good() {
    for (rewritten, code) in
        [(leaves(4, 0), LogRefusal::Shorter), (leaves(9, 1), LogRefusal::Forked)]
    {
        multi().block_on(async {
            let control = Control::start().await;
            control.desk().log = leaves(5, 0);
            let agent = control.agent().await;
            control.offer(3, control.making(3).bundle()).await;
            until("it works", || report(&agent).state == AgentState::Running).await;
            until("five events are seen", || report(&agent).log.size == 5).await;
            agent.stop().await.unwrap();

            let shown = rewritten.len() as u64;
            control.desk().log = rewritten;
            let agent = control.run().await;
            until("it is suspended", || report(&agent).state == AgentState::Suspended).await;
            assert_eq!(report(&agent).log.refuted, Some(code));
            let refused = Observation::LogRefused { size: shown, known: 5, code };
            until("control is told", || control.observed().contains(&refused)).await;
            control.offer(4, control.making(4).bundle()).await;
            let code = SnapshotRefusal::LogRefused;
            let refused = Observation::SnapshotRefused { version: 0, code };
            until("nothing is taken", || control.observed().contains(&refused)).await;
            assert_eq!(report(&agent).snapshot.map(|snapshot| snapshot.version), Some(3));
            agent.stop().await.unwrap();

            // Showing the right log again helps as little as starting again.
            control.desk().log = leaves(6, 0);
            let agent = control.run().await;
            until("it is still suspended", || report(&agent).state == AgentState::Suspended).await;
            agent.stop().await.unwrap();
        });
    }
}
