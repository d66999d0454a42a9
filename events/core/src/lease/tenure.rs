use std::time::Duration;

use rap_proto::Timestamp;
use uuid::Uuid;

/// A lease as its stream tells it: one generation after the other, never two at a time.
///
/// INVARIANT: what [`Tenure::check_grant`] and [`Tenure::check_end`] let into the stream makes
/// intervals that do not overlap and generations that rise, whatever the table says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tenure {
    /// Whose grant has not ended.
    pub present: Option<Granted>,
    /// The greatest generation so far.
    pub greatest: u64,
    /// Until when the last generation may have been active.
    pub free_from: Timestamp,
}

/// One generation's grant. Times are the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub generation: u64,
    pub holder: Uuid,
    pub granted_at: Timestamp,
    /// When it expires unless it is renewed.
    pub valid_until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TenureRejection {
    #[error("the lease is held")]
    LeaseHeld,
    #[error("the last holder may still be active")]
    StillValid,
    #[error("the generation is not the lease's")]
    StaleGeneration,
    #[error("the lease's time is out of range")]
    LifetimeOutOfRange,
}

impl Tenure {
    pub fn check_grant(&self, granted: &Granted, ttl_ms: u32) -> Result<(), TenureRejection> {
        if self.present.is_some() {
            return Err(TenureRejection::LeaseHeld);
        }
        if granted.generation <= self.greatest {
            return Err(TenureRejection::StaleGeneration);
        }
        if granted.granted_at < self.free_from {
            return Err(TenureRejection::StillValid);
        }
        let longest = granted.granted_at + Duration::from_millis(u64::from(ttl_ms));
        if granted.valid_until <= granted.granted_at || granted.valid_until > longest {
            return Err(TenureRejection::LifetimeOutOfRange);
        }
        Ok(())
    }

    /// When the present grant ends. `until`: when the generation was active at the latest, as the
    /// database says. That may be before the grant, when its clock went back since and the lease was
    /// renewed: the row says so for ever, and somebody has to be able to follow.
    pub fn check_end(
        &self,
        generation: u64,
        until: Timestamp,
    ) -> Result<Timestamp, TenureRejection> {
        match &self.present {
            Some(granted) if granted.generation == generation => Ok(until.max(granted.granted_at)),
            _ => Err(TenureRejection::StaleGeneration),
        }
    }

    pub fn grant(&mut self, granted: Granted) {
        self.greatest = granted.generation;
        self.present = Some(granted);
    }

    pub fn end(&mut self, until: Timestamp) {
        self.present = None;
        self.free_from = until;
    }
}
