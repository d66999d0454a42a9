//! The words of all resources of an organization at one time, and what changed between two times.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use rap_proto::{ResourceId, api::Availability};

use super::Outlook;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(BTreeMap<ResourceId, Availability>);

impl FromIterator<(ResourceId, Availability)> for Words {
    fn from_iter<T: IntoIterator<Item = (ResourceId, Availability)>>(words: T) -> Self {
        Self(words.into_iter().collect())
    }
}

impl Outlook<'_> {
    /// The word of each resource.
    pub fn words(&self) -> Words {
        let resources = self.known.state.within(self.organization).resources().iter();
        resources.map(|resource| (resource.id, self.of(resource))).collect()
    }
}

impl Words {
    /// The words that were another before, or none, behind the resource `after`, in the order of ids. Of
    /// resources that are gone nothing is said.
    pub fn changed_since<'a>(
        &'a self,
        before: &'a Self,
        after: Option<ResourceId>,
    ) -> impl Iterator<Item = (ResourceId, Availability)> + 'a {
        let behind = self.0.range((after.map_or(Unbounded, Excluded), Unbounded));
        let changed = behind.filter(|(resource, word)| before.0.get(resource) != Some(word));
        changed.map(|(resource, word)| (*resource, *word))
    }
}

#[cfg(test)]
mod tests {
    use Availability::{Available, Degraded, Unavailable};

    use super::*;

    fn words<const N: usize>(words: [(u128, Availability); N]) -> Words {
        words.into_iter().map(|(id, word)| (ResourceId::from_u128(id), word)).collect()
    }

    #[test]
    fn only_what_is_new_or_another_changed_and_it_can_be_told_in_parts() {
        let before = words([(1, Available), (2, Available), (3, Degraded), (9, Available)]);
        let now = words([(1, Available), (2, Unavailable), (3, Available), (4, Available)]);
        let changed = |after: Option<u128>| -> Words {
            now.changed_since(&before, after.map(ResourceId::from_u128)).collect()
        };
        assert_eq!(changed(None), words([(2, Unavailable), (3, Available), (4, Available)]));
        assert_eq!(changed(Some(2)), words([(3, Available), (4, Available)]));
        assert_eq!(changed(Some(4)), words([]));
        assert_eq!(now.changed_since(&now, None).count(), 0);
    }
}
