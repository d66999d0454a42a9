//! Asks the table of rates before anything is done for a caller.

use std::sync::Mutex;

use rap_control_core::{
    quota::{EventBuckets, Spent},
    rate::{Limited, Payer, PayerClass, RateTable, Rates},
};
use rap_proto::{
    OrganizationId,
    api::{Problem, ProblemCode},
};

use crate::{
    clock, http,
    metrics::{Gauge, Metrics},
};

#[derive(Debug)]
pub(crate) struct RateLimiter {
    table: Mutex<RateTable>,
}

impl RateLimiter {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { table: Mutex::new(RateTable::new(rates)) }
    }

    /// Lets a request pass, or says when to repeat it.
    pub(crate) fn admit(&self, payers: &[Payer], metrics: &Metrics) -> Result<(), Problem> {
        let now = clock::moment();
        self.lock().admit(now, payers).map_err(|Limited { class, retry_after }| {
            metrics.count("rate_limited", class.as_str());
            Problem::new(ProblemCode::RateLimited, "more requests than the rate permits")
                .rule(format!("rate.{}", class.as_str()))
                .retry_after(retry_after)
        })
    }

    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        let table = self.lock();
        let gauge = |class: PayerClass| Gauge {
            name: "rap_control_rate_buckets",
            help: "Callers whose rate is being counted, by class.",
            labels: format!("class=\"{}\"", class.as_str()),
            value: table.remembered(class) as u64,
        };
        PayerClass::ALL.into_iter().map(gauge).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RateTable> {
        self.table.lock().expect("no holder of the lock panics")
    }
}

/// Asks how many events an organization added lately, before more are appended.
#[derive(Debug, Default)]
pub(crate) struct Spending(Mutex<EventBuckets>);

impl Spending {
    /// Takes so many events of an organization's quota, or says when to repeat.
    pub(crate) fn spend(
        &self,
        organization: OrganizationId,
        per_second: u32,
        events: u32,
    ) -> Result<(), Problem> {
        let mut buckets = self.0.lock().expect("no holder of the lock panics");
        let spent = buckets.spend(clock::moment(), organization, per_second, events);
        spent.map_err(|Spent { reached, retry_after }| {
            http::quotas::reached(reached).retry_after(retry_after)
        })
    }
}
