//! Places that organizations share.

use std::collections::BTreeMap;

use rap_proto::OrganizationId;

/// Each organization has at most as many places as are left: alone half of them, and however many
/// others there are, something is left for the next.
#[derive(Debug, Clone)]
pub struct Shares {
    most: usize,
    taken: usize,
    each: BTreeMap<OrganizationId, usize>,
}

impl Shares {
    pub const fn new(most: usize) -> Self {
        Self { most, taken: 0, each: BTreeMap::new() }
    }

    /// Whether the organization may have so many more.
    pub fn fits(&self, organization: OrganizationId, count: usize) -> bool {
        let own = self.each.get(&organization).copied().unwrap_or(0);
        own.saturating_add(count) <= self.most - self.taken
    }

    /// Takes so many places. False when it may not have them.
    pub fn take(&mut self, organization: OrganizationId, count: usize) -> bool {
        let fits = self.fits(organization, count);
        if fits {
            *self.each.entry(organization).or_default() += count;
            self.taken += count;
        }
        fits
    }

    /// Gives so many back that were taken.
    pub fn give(&mut self, organization: OrganizationId, count: usize) {
        let Some(own) = self.each.get_mut(&organization) else { return };
        let count = count.min(*own);
        *own -= count;
        self.taken -= count;
        if *own == 0 {
            self.each.remove(&organization);
        }
    }

    pub const fn taken(&self) -> usize {
        self.taken
    }
}
