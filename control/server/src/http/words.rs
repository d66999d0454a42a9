//! What one event stream tells of its organization's words.

use std::sync::Arc;

use bytes::Bytes;
use rap_control_core::access::Words;
use rap_proto::{
    OrganizationId, ResourceId,
    api::{AvailabilityChanged, ResourceAvailability},
};

/// The most words of one message.
const MAX_WORDS: usize = 100;

/// INVARIANT: whatever differs from `told` and comes before `telling`'s place was told.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) organization: OrganizationId,
    told: Arc<Words>,
    /// What is being told, and the last resource of which it was.
    telling: Option<(Arc<Words>, Option<ResourceId>)>,
}

impl Telling {
    /// Of a stream that knows no word yet: it is told all of them first.
    pub(super) fn new(organization: OrganizationId) -> Self {
        Self { organization, told: Arc::default(), telling: None }
    }

    /// The next message, if a word changed. It has no id: coming back behind the event before it loses
    /// nothing, as all words are told then.
    pub(super) fn next(&mut self, newest: Option<Arc<Words>>) -> Option<Bytes> {
        if let Some((words, after)) = self.telling.take()
            && let Some(message) = self.part(words, after)
        {
            return Some(message);
        }
        let newest = newest.filter(|newest| *newest != self.told)?;
        self.part(newest, None)
    }

    fn part(&mut self, words: Arc<Words>, after: Option<ResourceId>) -> Option<Bytes> {
        let changed = words.changed_since(&self.told, after).take(MAX_WORDS);
        let changed: Vec<ResourceAvailability> = changed
            .map(|(resource, availability)| ResourceAvailability { resource, availability })
            .collect();
        match changed.last() {
            Some(last) if changed.len() == MAX_WORDS => {
                self.telling = Some((words, Some(last.resource)));
            }
            _ => self.told = words,
        }
        (!changed.is_empty()).then(|| message(AvailabilityChanged { words: changed }))
    }
}

fn message(body: AvailabilityChanged) -> Bytes {
    let data = serde_json::to_string(&body).expect("words are expressible in JSON");
    Bytes::from(format!("event: availability\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::api::Availability::{self, Available, Degraded};

    use super::*;

    const MANY: usize = 2 * MAX_WORDS;

    fn all(word: Availability) -> Arc<Words> {
        let ids = (1..=MANY).map(|id| ResourceId::from_u128(id as u128));
        Arc::new(ids.map(|id| (id, word)).collect())
    }

    fn said(message: &Bytes) -> Vec<ResourceAvailability> {
        let text = std::str::from_utf8(message).unwrap();
        let data = text.strip_prefix("event: availability\ndata: ").unwrap();
        serde_json::from_str::<AvailabilityChanged>(data.trim_end()).unwrap().words
    }

    #[test]
    fn all_words_are_told_first_a_few_at_a_time_and_then_what_changed() {
        let mut telling = Telling::new(OrganizationId::from_u128(1));
        assert_eq!(telling.next(None), None, "nobody looked yet");
        let first = said(&telling.next(Some(all(Available))).unwrap());
        assert_eq!(first.len(), MAX_WORDS);
        // What changes meanwhile is told behind what is being told.
        let second = said(&telling.next(Some(all(Degraded))).unwrap());
        assert!(second.iter().all(|word| word.availability == Available));
        assert!(first.last().unwrap().resource < second[0].resource);
        let third = said(&telling.next(Some(all(Degraded))).unwrap());
        assert!(third.iter().all(|word| word.availability == Degraded));
    }

    #[test]
    fn what_did_not_change_or_is_gone_makes_no_message() {
        let mut telling = Telling::new(OrganizationId::from_u128(1));
        assert_eq!(telling.next(Some(Arc::default())), None);
        while telling.next(Some(all(Available))).is_some() {}
        assert_eq!(telling.next(Some(all(Available))), None);
        assert_eq!(telling.next(Some(Arc::default())), None, "no resource is left");
    }
}
