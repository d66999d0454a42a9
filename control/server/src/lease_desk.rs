//! Between those who hear of leases and the one actor that grants them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use rap_control_core::lease::Reason;
use rap_proto::{NodeId, VpnConnectionId, bus::LeaseReport};
use tokio::sync::mpsc;

use crate::metrics::{Gauge, Metrics};

/// The most messages that wait for the grantor. Reports beyond are dropped: nodes repeat them.
pub(crate) const MAX_WAITING: usize = 4_096;

/// What the grantor is told.
#[derive(Debug)]
pub(crate) enum Message {
    Reported {
        node: NodeId,
        report: LeaseReport,
    },
    /// A holder gave its lease back here.
    Released(VpnConnectionId),
}

/// The side of those who tell and ask.
#[derive(Debug)]
pub(crate) struct LeaseDesk {
    grantor: mpsc::Sender<Message>,
    reasons: Mutex<BTreeMap<VpnConnectionId, Reason>>,
}

/// The side of the grantor: what it was told and has not heard yet.
#[derive(Debug)]
pub(crate) struct News {
    messages: mpsc::Receiver<Message>,
}

pub(crate) fn lease_desk() -> (LeaseDesk, News) {
    let (grantor, messages) = mpsc::channel(MAX_WAITING);
    (LeaseDesk { grantor, reasons: Mutex::default() }, News { messages })
}

impl News {
    /// The next one, when it comes; `None` when nobody can tell anything any more. Nothing is lost
    /// when the wait is given up.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// All that waits, in the order in which it came, and no more than may wait: whoever tells
    /// faster than one hears would keep the grantor from everything else.
    pub(crate) fn waiting(&mut self) -> impl Iterator<Item = Message> {
        std::iter::from_fn(|| self.messages.try_recv().ok()).take(MAX_WAITING)
    }
}

impl LeaseDesk {
    pub(crate) fn tell(&self, message: Message, metrics: &Metrics) {
        let word = match self.grantor.try_send(message) {
            Ok(()) => "taken",
            Err(_) => "overflowed",
        };
        metrics.count("lease_news", word);
    }

    /// Why each connection is as it is.
    pub(crate) fn publish(&self, reasons: &BTreeMap<VpnConnectionId, Reason>) {
        let mut known = self.lock();
        if *known != *reasons {
            known.clone_from(reasons);
        }
    }

    /// Why a connection is carried, or not, as far as the grantor of this replica knows.
    pub(crate) fn reason(&self, connection: VpnConnectionId) -> Option<Reason> {
        self.lock().get(&connection).copied()
    }

    /// How many connections wait because the database shows less than was granted.
    pub(crate) fn went_back(&self) -> usize {
        self.lock().values().filter(|reason| **reason == Reason::TableWentBack).count()
    }

    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        let mut counts = BTreeMap::new();
        for reason in self.lock().values() {
            *counts.entry(*reason).or_insert(0_u64) += 1;
        }
        let gauge = |(reason, value): (Reason, u64)| Gauge {
            name: "rap_control_connections",
            help: "Connections by why they are carried, or not.",
            labels: format!("reason=\"{reason}\""),
            value,
        };
        counts.into_iter().map(gauge).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VpnConnectionId, Reason>> {
        self.reasons.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn so_much_news_waits_and_the_rest_is_dropped_and_counted() {
        let (desk, mut news) = lease_desk();
        let metrics = Metrics::default();
        let released = || Message::Released(VpnConnectionId::from_u128(1));
        for _ in 0..MAX_WAITING + 3 {
            desk.tell(released(), &metrics);
        }
        let text = metrics.render(&[]);
        assert!(text.contains("rap_control_lease_news_total{outcome=\"overflowed\"} 3"), "{text}");
        news.waiting().next().unwrap();
        desk.tell(released(), &metrics);
        assert!(metrics.render(&[]).contains("{outcome=\"overflowed\"} 3"));
    }

    #[tokio::test]
    async fn all_that_waits_is_heard_in_one_turn_and_no_more_than_may_wait() {
        let (desk, mut news) = lease_desk();
        let metrics = Metrics::default();
        let tell = |number: usize| {
            let connection = VpnConnectionId::from_u128(number as u128);
            desk.tell(Message::Released(connection), &metrics);
        };
        (0..MAX_WAITING).for_each(tell);
        // Each that is heard makes room, and somebody takes it at once.
        let mut heard = Vec::new();
        for message in news.waiting() {
            let Message::Released(connection) = message else { panic!("{message:?}") };
            heard.push(connection.uuid().as_u128());
            tell(MAX_WAITING + heard.len() - 1);
        }
        assert!(heard.iter().copied().eq(0..MAX_WAITING as u128));
        assert!(!metrics.render(&[]).contains("overflowed"), "the turn made room for the next");
        assert_eq!(news.waiting().count(), MAX_WAITING);
        assert_eq!(news.waiting().count(), 0);
        tell(0);
        assert!(news.next().await.is_some());
        drop(desk);
        assert!(news.next().await.is_none());
    }
}
