//! What a node makes of control's word while it hears a quorum, and when it hears none.

use std::time::Duration;

use rap_node_agent::{AgentState, RunningAgent};
use rap_proto::{
    Authority, Digest, Signer, Timestamp,
    authority::AuthorityStanding,
    beat::{Beat, EpochStatement},
    codec,
    key::LocalKey,
    observation::Observation,
    signed::seal,
    wire::node_api::BeatReply,
};

use crate::control::{Control, now, random_key, report, until};

/// Of beats whose end is waited for.
const LIFE: Duration = Duration::from_secs(5);

pub(crate) struct Replicas {
    /// How long their beats are valid.
    life: Duration,
    keys: [LocalKey; 3],
    statement: EpochStatement,
    control: LocalKey,
}

impl Replicas {
    pub(crate) fn of(control: &Control) -> Self {
        let keys = [random_key(), random_key(), random_key()];
        let making = control.making(1);
        let statement = EpochStatement {
            cluster: making.manifest.cluster,
            epoch: 1,
            revision: 1,
            replicas: keys.iter().map(LocalKey::public_key).collect(),
            threshold: 2,
            previous: None,
        };
        Self { life: LIFE, keys, statement, control: making.signer }
    }

    pub(crate) fn for_beats_of(self, life: Duration) -> Self {
        Self { life, ..self }
    }

    pub(crate) fn beat(&self, sequence: u64, issued_at: Timestamp, signers: usize) -> BeatReply {
        let beat = Beat {
            cluster: self.statement.cluster,
            epoch: 1,
            statement: Digest::of(&codec::encode(&self.statement)),
            sequence,
            snapshot_floor: 1,
            deny_version: 0,
            issued_at,
            expires_at: issued_at + self.life,
        };
        let signers: Vec<&dyn Signer> =
            self.keys.iter().take(signers).map(|key| key as &dyn Signer).collect();
        let statement = seal(&self.statement, &[&self.control]);
        let beat = seal(&beat, &signers);
        BeatReply { statement, beat, records_changes: true, servers: Vec::new() }
    }
}

fn standing(agent: &RunningAgent) -> Authority {
    report(agent).authority.standing
}

/// What the node reported of control's authority: the standing, the beat heard last, and whether the agent
/// was started meanwhile.
fn told(control: &Control) -> Vec<(AuthorityStanding, u64, bool)> {
    let change = |observation: Observation| match observation {
        Observation::AuthorityChanged { change } => change,
        other => panic!("{other:?}"),
    };
    let changes = control.observed().into_iter().map(change);
    changes.map(|change| (change.standing, change.sequence, change.restarted)).collect()
}

async fn hears(control: &Control, sequence: u64, reply: BeatReply) {
    control.desk().beat = Some(reply);
    control.ring_beat(sequence).await;
}

#[test]
fn a_node_that_hears_no_quorum_is_degraded_until_it_hears_one_also_over_a_restart() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        control.offer(1, control.making(1).bundle()).await;
        until("the snapshot is applied", || report(&agent).state == AgentState::Running).await;
        until("the bus is there", || report(&agent).bus_connected).await;
        assert_eq!(standing(&agent), Authority::Unheard);

        let replicas = Replicas::of(&control);
        // What it lives through waits for somebody who records it.
        control.desk().records = false;
        hears(&control, 1, replicas.beat(1, now(), 2)).await;
        until("it is healthy", || standing(&agent) == Authority::Healthy).await;
        let shown = report(&agent).authority;
        assert_eq!((shown.sequence, shown.replicas, shown.needed), (1, 3, 2));
        until("that waits", || report(&agent).spool.waiting >= 1).await;

        // One of three goes on alone, and its beat counts for nothing.
        hears(&control, 2, replicas.beat(2, now(), 1)).await;
        until("it is degraded", || matches!(standing(&agent), Authority::Degraded { .. })).await;
        assert_eq!(report(&agent).authority.sequence, 1);
        until("both wait", || report(&agent).spool.waiting >= 2).await;
        agent.stop().await.unwrap();

        let agent = control.run().await;
        until("it remembers", || matches!(standing(&agent), Authority::Degraded { .. })).await;
        until("the bus is there", || report(&agent).bus_connected).await;
        hears(&control, 3, replicas.beat(3, now(), 3)).await;
        until("it is healthy again", || standing(&agent) == Authority::Healthy).await;
        until("all of it waits", || report(&agent).spool.waiting >= 4).await;
        control.desk().records = true;
        until("all of it is recorded", || told(&control).len() >= 4).await;
        use AuthorityStanding::{Degraded, Healthy};
        let expected =
            [(Healthy, 1, false), (Degraded, 1, false), (Degraded, 1, true), (Healthy, 3, true)];
        assert_eq!(told(&control)[..4], expected);
        agent.stop().await.unwrap();
    });
}
