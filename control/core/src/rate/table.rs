use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_proto::Moment;

use super::{Payer, PayerClass, Rate, Rates, bucket::Bucket};

/// The most buckets of one class that are not full.
pub const MAX_BUCKETS: usize = 65_536;
/// How many full buckets one request forgets at most: more than it makes, so that they dwindle.
const FORGOTTEN_AT_ONCE: usize = 4;

/// A request came too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// Whose bucket was empty.
    pub class: PayerClass,
    /// From then on a token is there, unless others take it.
    pub retry_after: Duration,
}

/// Every bucket that is not full.
#[derive(Debug)]
pub struct RateTable {
    rates: Rates,
    classes: BTreeMap<PayerClass, Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_payer: BTreeMap<Payer, Bucket>,
    by_time: BTreeSet<(Moment, Payer)>,
    /// What those share for whom there is no room.
    shared: Bucket,
}

impl RateTable {
    pub fn new(rates: Rates) -> Self {
        let classes = PayerClass::ALL.into_iter().map(|class| (class, Buckets::default()));
        Self { rates, classes: classes.collect() }
    }

    /// Takes one token of each payer, or none of any.
    pub fn admit(&mut self, now: Moment, payers: &[Payer]) -> Result<(), Limited> {
        for payer in payers {
            let class = payer.class();
            let rate = self.rate(class);
            let Some(buckets) = self.classes.get_mut(&class) else { continue };
            buckets.forget_full(now);
            let taken = buckets.of(payer).take(rate, now);
            taken.map_err(|retry_after| Limited { class, retry_after })?;
        }
        for payer in payers {
            let rate = self.rate(payer.class());
            if let Some(buckets) = self.classes.get_mut(&payer.class())
                && let Ok(bucket) = buckets.of(payer).take(rate, now)
            {
                buckets.put(*payer, bucket);
            }
        }
        Ok(())
    }

    /// How many buckets of a class are remembered.
    pub fn remembered(&self, class: PayerClass) -> usize {
        self.classes.get(&class).map_or(0, |buckets| buckets.by_payer.len())
    }

    fn rate(&self, class: PayerClass) -> Rate {
        match class {
            PayerClass::User => self.rates.user,
            PayerClass::ApiToken => self.rates.api_token,
            PayerClass::Address => self.rates.address,
            PayerClass::Node => self.rates.node,
        }
    }
}

impl Buckets {
    fn of(&self, payer: &Payer) -> Bucket {
        match self.by_payer.get(payer) {
            Some(bucket) => *bucket,
            None if self.is_crowded() => self.shared,
            None => Bucket::default(),
        }
    }

    fn put(&mut self, payer: Payer, bucket: Bucket) {
        match self.by_payer.get(&payer) {
            Some(before) => {
                self.by_time.remove(&(before.full_at(), payer));
            }
            None if self.is_crowded() => {
                self.shared = bucket;
                return;
            }
            None => {}
        }
        self.by_time.insert((bucket.full_at(), payer));
        self.by_payer.insert(payer, bucket);
    }

    fn forget_full(&mut self, now: Moment) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((full_at, payer)) = self.by_time.first().copied() else { return };
            if full_at > now {
                return;
            }
            self.by_time.pop_first();
            self.by_payer.remove(&payer);
        }
    }

    fn is_crowded(&self) -> bool {
        self.by_payer.len() >= MAX_BUCKETS
    }
}
