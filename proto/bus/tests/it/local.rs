use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use rap_bus::{Bus as _, BusError, Faults, LocalBus, Subscription, conformance};

use super::{CLUSTER, node};

const FAULTS: Faults = Faults {
    seed: 11,
    lost_permille: 200,
    duplicated_permille: 200,
    greatest_delay: Duration::from_millis(50),
};

#[tokio::test]
async fn conforms() {
    let bus = LocalBus::new();
    let nodes = [1, 2].map(|number| (node(number), Arc::new(bus.clone()) as _));
    let parties = conformance::Parties { cluster: CLUSTER, control: Arc::new(bus), nodes };
    conformance::check(&parties).await;
}

#[tokio::test(start_paused = true)]
async fn faults_are_those_of_the_seed() {
    let first = run(FAULTS).await;
    assert_eq!(first, run(FAULTS).await);
    assert_ne!(first, run(Faults { seed: 12, ..FAULTS }).await);

    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert!((700..900).contains(&distinct.len()), "{} of 1000 arrived", distinct.len());
    assert!(first.len() > distinct.len() + 100, "some arrive twice");
    assert!(!first.is_sorted(), "some overtake others");
}

#[tokio::test]
async fn a_disconnected_bus_refuses_and_comes_back() {
    let bus = LocalBus::new();
    let mut subscription = bus.subscribe("a".to_owned()).await.unwrap();
    bus.set_disconnected(true);
    assert_eq!(send(&bus, 1).await, Err(BusError::Disconnected));
    bus.set_disconnected(false);
    send(&bus, 2).await.unwrap();
    assert_eq!(received(&mut subscription), [2]);
}

#[tokio::test]
async fn subscriptions_are_limited() {
    let bus = LocalBus::new();
    let mut held = Vec::new();
    let refused = loop {
        match bus.subscribe("a".to_owned()).await {
            Ok(subscription) => held.push(subscription),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, BusError::TooManySubscriptions { limit: held.len() });
    held.pop();
    assert!(bus.subscribe("a".to_owned()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn messages_under_way_are_limited() {
    let bus = LocalBus::with_faults(Faults {
        lost_permille: 0,
        duplicated_permille: 0,
        greatest_delay: Duration::from_secs(3600),
        ..FAULTS
    });
    let mut subscriptions = Vec::new();
    for _ in 0..10 {
        subscriptions.push(bus.subscribe("a".to_owned()).await.unwrap());
    }
    for number in 0..1000 {
        send(&bus, number).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(3601)).await;
    let arrived: usize = subscriptions.iter_mut().map(|each| received(each).len()).sum();
    assert!((4096..4120).contains(&arrived), "{arrived}");
}

#[tokio::test]
async fn the_end_of_the_bus_ends_its_subscriptions() {
    let bus = LocalBus::new();
    let mut subscription = bus.subscribe("a".to_owned()).await.unwrap();
    drop(bus);
    assert_eq!(subscription.next().await, None);
}

/// What arrives of 1,000 messages, in the order of arrival.
async fn run(faults: Faults) -> Vec<u32> {
    let bus = LocalBus::with_faults(faults);
    let mut subscription = bus.subscribe("a".to_owned()).await.unwrap();
    let mut arrived = Vec::new();
    for number in 0..1000 {
        send(&bus, number).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        arrived.extend(received(&mut subscription));
    }
    tokio::time::sleep(faults.greatest_delay * 2).await;
    arrived.extend(received(&mut subscription));
    arrived
}

async fn send(bus: &LocalBus, number: u32) -> Result<(), BusError> {
    bus.publish("a".to_owned(), Bytes::copy_from_slice(&number.to_be_bytes())).await
}

/// Everything that has arrived by now.
fn received(subscription: &mut Subscription) -> Vec<u32> {
    std::iter::from_fn(|| subscription.next().now_or_never().flatten())
        .map(|event| u32::from_be_bytes(event.payload[..].try_into().unwrap()))
        .collect()
}
