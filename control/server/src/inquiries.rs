//! Questions of operators that nodes answer over the bus, and who waits for which answer.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rap_proto::{InquiryId, NodeId, bus::Explanation};
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// The most questions that wait for their answers at the same time.
pub(crate) const MAX_INQUIRIES: usize = 64;
/// How long an answer is waited for.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    waiting: Mutex<BTreeMap<InquiryId, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    /// Who is asked; nobody else answers.
    node: NodeId,
    answer: oneshot::Sender<Explanation>,
}

/// There are [`MAX_INQUIRIES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A question that waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    inquiries: &'a Inquiries,
    inquiry: InquiryId,
    answer: oneshot::Receiver<Explanation>,
}

impl Inquiries {
    pub(crate) fn ask(&self, inquiry: InquiryId, node: NodeId) -> Result<Asked<'_>, Full> {
        let mut waiting = self.lock();
        if waiting.len() >= MAX_INQUIRIES {
            return Err(Full);
        }
        let (sender, answer) = oneshot::channel();
        waiting.insert(inquiry, Waiting { node, answer: sender });
        Ok(Asked { inquiries: self, inquiry, answer })
    }

    /// Takes an answer. What nobody waits for, what somebody else was asked, and what is not plain
    /// is dropped and counted.
    pub(crate) fn answered(&self, node: NodeId, explanation: Explanation, metrics: &Metrics) {
        let mut waiting = self.lock();
        let asked = waiting.get(&explanation.inquiry).is_some_and(|asked| asked.node == node);
        let word = match (asked, explanation.is_plain()) {
            (false, _) => "not_asked",
            (true, false) => "malformed",
            (true, true) => {
                let found = waiting.remove(&explanation.inquiry);
                let taken = found.is_some_and(|found| found.answer.send(explanation).is_ok());
                if taken { "taken" } else { "too_late" }
            }
        };
        metrics.count("inquiries", word);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InquiryId, Waiting>> {
        self.waiting.lock().expect("no holder of the lock panics")
    }
}

impl Asked<'_> {
    /// `None` when the node does not answer in time.
    pub(crate) async fn answer(mut self) -> Option<Explanation> {
        tokio::time::timeout(ANSWER_WITHIN, &mut self.answer).await.ok()?.ok()
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.inquiries.lock().remove(&self.inquiry);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn explanation(inquiry: u128) -> Explanation {
        let inquiry = InquiryId::from_u128(inquiry);
        let (lanes, relays, weights) = (Vec::new(), Vec::new(), BTreeMap::new());
        Explanation { inquiry, peer: None, lanes, relays, weights }
    }

    #[tokio::test]
    async fn only_who_was_asked_answers_and_only_once() {
        let (inquiries, metrics) = (Inquiries::default(), Metrics::default());
        let (node, other) = (NodeId::from_u128(1), NodeId::from_u128(2));
        let asked = inquiries.ask(InquiryId::from_u128(7), node).unwrap();
        inquiries.answered(other, explanation(7), &metrics);
        inquiries.answered(node, explanation(8), &metrics);
        inquiries.answered(node, explanation(7), &metrics);
        inquiries.answered(node, explanation(7), &metrics);
        assert_eq!(asked.answer().await, Some(explanation(7)));
        let text = metrics.render(&[]);
        assert!(text.contains("rap_control_inquiries_total{outcome=\"not_asked\"} 3"), "{text}");
        assert!(text.contains("rap_control_inquiries_total{outcome=\"taken\"} 1"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_questions_wait_and_each_not_for_long() {
        let inquiries = Inquiries::default();
        let node = NodeId::from_u128(1);
        let ask = |number| inquiries.ask(InquiryId::from_u128(number), node);
        let waiting: Vec<_> =
            (0..MAX_INQUIRIES as u128).map(|number| ask(number).unwrap()).collect();
        assert_eq!(ask(1_000).unwrap_err(), Full);
        for asked in waiting {
            assert_eq!(asked.answer().await, None);
        }
        assert!(ask(1_000).is_ok(), "what is over makes room");
    }
}
