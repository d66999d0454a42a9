//! What every bus does, as one suite that runs on each implementation.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use rap_proto::{ClusterId, NodeId, bus};
use tokio::time::{Instant, sleep, timeout};

use crate::{Bus, BusError, MAX_PAYLOAD_BYTES, SUBSCRIPTION_CAPACITY, Subscription};

/// How long the suite waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The parties of one cluster, each with its own handle of the same bus.
pub struct Parties {
    pub cluster: ClusterId,
    pub control: Arc<dyn Bus>,
    pub nodes: [(NodeId, Arc<dyn Bus>); 2],
}

/// Runs the suite.
///
/// # Panics
/// At the first thing that the bus does otherwise.
pub async fn check(parties: &Parties) {
    delivers_to_the_audience_alone(parties).await;
    brings_every_node_to_control(parties).await;
    keeps_the_order_of_one_sender(parties).await;
    gives_each_subscription_a_copy(parties).await;
    carries_payloads_up_to_the_limit(parties).await;
    refuses_what_is_no_subject(parties).await;
    unsubscribes_by_dropping(parties).await;
    loses_the_oldest_first(parties).await;
}

impl Parties {
    fn down(&self, node: usize) -> String {
        bus::down_subject(self.cluster, self.nodes[node].0)
    }

    fn up(&self, node: usize) -> String {
        bus::up_subject(self.cluster, self.nodes[node].0)
    }

    async fn listen(&self, node: usize) -> Subscription {
        subscribe(&*self.nodes[node].1, self.down(node)).await
    }

    async fn ring(&self, node: usize, payload: impl Into<Bytes>) {
        publish(&*self.control, self.down(node), payload).await;
    }
}

async fn delivers_to_the_audience_alone(parties: &Parties) {
    let (mut first, mut second) = (parties.listen(0).await, parties.listen(1).await);
    parties.ring(0, "for the first").await;
    parties.ring(1, "for the second").await;
    for (subscription, node, text) in
        [(&mut first, 0, "for the first"), (&mut second, 1, "for the second")]
    {
        let event = next(subscription).await;
        assert_eq!((event.subject, event.payload), (parties.down(node), Bytes::from(text)));
    }
}

async fn brings_every_node_to_control(parties: &Parties) {
    let mut all = subscribe(&*parties.control, bus::all_up_subjects(parties.cluster)).await;
    for node in [0, 1] {
        publish(&*parties.nodes[node].1, parties.up(node), "here").await;
        assert_eq!(next(&mut all).await.subject, parties.up(node));
    }
}

async fn keeps_the_order_of_one_sender(parties: &Parties) {
    let mut subscription = parties.listen(0).await;
    for number in 0..500_u32 {
        parties.ring(0, number.to_be_bytes().to_vec()).await;
    }
    for number in 0..500_u32 {
        assert_eq!(next(&mut subscription).await.payload, number.to_be_bytes().to_vec());
    }
}

async fn gives_each_subscription_a_copy(parties: &Parties) {
    let (mut one, mut other) = (parties.listen(0).await, parties.listen(0).await);
    parties.ring(0, "copied").await;
    for subscription in [&mut one, &mut other] {
        assert_eq!(next(subscription).await.payload, "copied");
    }
}

async fn carries_payloads_up_to_the_limit(parties: &Parties) {
    let mut subscription = parties.listen(0).await;
    for size in [0, 1, MAX_PAYLOAD_BYTES] {
        let payload: Bytes = (0..size).map(|at| (at % 251) as u8).collect();
        parties.ring(0, payload.clone()).await;
        assert_eq!(next(&mut subscription).await.payload, payload);
    }
    let actual = MAX_PAYLOAD_BYTES + 1;
    let refused = parties.control.publish(parties.down(0), vec![0; actual].into()).await;
    assert_eq!(refused, Err(BusError::TooLarge { actual }));
}

async fn refuses_what_is_no_subject(parties: &Parties) {
    for subject in ["", "a..b", "a b", "a\r\nPING", "a.*", "a.>"] {
        let refused = parties.control.publish(subject.to_owned(), Bytes::new()).await;
        assert_eq!(refused, Err(BusError::InvalidSubject(subject.to_owned())));
    }
    for subject in ["", "a..b", "a.>.b", "a\r\nPING"] {
        let refused = parties.control.subscribe(subject.to_owned()).await;
        assert_eq!(refused.err(), Some(BusError::InvalidSubject(subject.to_owned())));
    }
}

async fn unsubscribes_by_dropping(parties: &Parties) {
    drop(parties.listen(0).await);
    parties.ring(0, "heard by nobody").await;
    // Subscribing returns once everything that the same party sent before has gone its way;
    // only then is it certain that nobody was there to hear it.
    drop(subscribe(&*parties.control, bus::all_up_subjects(parties.cluster)).await);
    let mut later = parties.listen(0).await;
    parties.ring(0, "heard").await;
    assert_eq!(next(&mut later).await.payload, "heard");
}

async fn loses_the_oldest_first(parties: &Parties) {
    let surplus = 100;
    let mut subscription = parties.listen(0).await;
    for number in 0..SUBSCRIPTION_CAPACITY + surplus {
        parties.ring(0, number.to_string()).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while subscription.dropped() < surplus as u64 {
        assert!(Instant::now() < deadline, "only {} were dropped", subscription.dropped());
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(subscription.dropped(), surplus as u64);
    for number in surplus..SUBSCRIPTION_CAPACITY + surplus {
        assert_eq!(next(&mut subscription).await.payload, number.to_string());
    }
}

async fn publish(bus: &dyn Bus, subject: String, payload: impl Into<Bytes>) {
    bus.publish(subject, payload.into()).await.expect("a message to a plain subject is sent");
}

async fn subscribe(bus: &dyn Bus, subject: String) -> Subscription {
    bus.subscribe(subject).await.expect("one's own subject can be subscribed")
}

async fn next(subscription: &mut Subscription) -> crate::BusEvent {
    timeout(PATIENCE, subscription.next())
        .await
        .expect("a message that was sent arrives in time")
        .expect("a subscription does not end by itself")
}
