//! The words of the organizations whose streams asked for them. Only the newest are kept, once for all
//! streams: who is slow is told what the word is, not what it was meanwhile.

use std::sync::{Arc, atomic::Ordering};

use rap_control_core::access::Words;
use rap_proto::OrganizationId;

use super::{Feed, Topic};

impl Feed {
    /// The organizations of which somebody wants to hear. Of the others nothing is kept.
    pub(crate) fn listened_to(&self) -> Vec<OrganizationId> {
        let mut shared = self.lock();
        let first = Topic::Words(OrganizationId::from_u128(0));
        let topics = shared.topics.range(first..);
        let of = |topic: &Topic| match topic {
            Topic::Words(organization) => Some(*organization),
            Topic::Platform | Topic::Organization(_) | Topic::Stream(_) => None,
        };
        let found: Vec<OrganizationId> = topics.filter_map(|(topic, _)| of(topic)).collect();
        shared.words.retain(|organization, _| found.binary_search(organization).is_ok());
        found
    }

    /// Keeps an organization's words, and wakes who wants to hear of them if they are others than before.
    pub(crate) fn say(&self, organization: OrganizationId, words: Words) {
        let mut shared = self.lock();
        if shared.words.get(&organization).is_some_and(|held| **held == words) {
            return;
        }
        let Some(numbers) = shared.topics.get(&Topic::Words(organization)) else { return };
        let followers = numbers.iter().filter_map(|number| shared.followers.get(number));
        followers.for_each(|follower| follower.notify_one());
        self.wakeups.fetch_add(numbers.len() as u64, Ordering::Relaxed);
        shared.words.insert(organization, Arc::new(words));
    }

    /// `None` until somebody looked.
    pub(crate) fn words(&self, organization: OrganizationId) -> Option<Arc<Words>> {
        self.lock().words.get(&organization).cloned()
    }
}
