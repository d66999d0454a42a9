//! The live state equals a fold of the log from its first event, byte for byte.

use rap_control_core::State;
use rap_events::Envelope;

use super::Violation;

const NAME: &str = "replay";

#[derive(Debug, Default)]
pub struct Replay;

impl Replay {
    pub fn check(&self, live: &State, events: &[Envelope]) -> Result<(), Violation> {
        let mut replayed = State::default();
        for envelope in events {
            replayed
                .fold(envelope)
                .map_err(|error| Violation::new(NAME, format!("the log does not fold: {error}")))?;
        }
        if replayed.to_bytes() == live.to_bytes() {
            return Ok(());
        }
        let detail = format!(
            "the live state at {} differs from a replay to {}",
            live.position(),
            replayed.position()
        );
        Err(Violation::new(NAME, detail))
    }
}
