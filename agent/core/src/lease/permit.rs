use rap_proto::{Generation, Moment};

/// Under which generation something may leave, and until when: small enough to be looked at for
/// every packet, wherever the packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    pub generation: Generation,
    pub until: Moment,
}

impl Permit {
    pub fn covers(&self, now: Moment, generation: Generation) -> bool {
        generation == self.generation && now < self.until
    }

    /// Whether this is `before`, or a renewal of it.
    pub fn extends(&self, before: &Self) -> bool {
        self.generation == before.generation && self.until >= before.until
    }
}
