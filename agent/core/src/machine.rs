//! The shape that every machine has, so that one way of driving serves them all.

use rap_proto::Moment;

/// A state machine that performs nothing itself.
///
/// The driver calls [`handle_input`](Self::handle_input) or
/// [`handle_timeout`](Self::handle_timeout), then drains [`poll_effect`](Self::poll_effect)
/// until `None`, then arms one timer for [`poll_timeout`](Self::poll_timeout).
pub trait Machine {
    type Input;
    type Effect;

    fn handle_input(&mut self, now: Moment, input: Self::Input);

    /// To be called at or after the moment that [`poll_timeout`](Self::poll_timeout) named;
    /// calling it earlier changes nothing.
    fn handle_timeout(&mut self, now: Moment);

    fn poll_effect(&mut self) -> Option<Self::Effect>;

    fn poll_timeout(&self) -> Option<Moment>;
}
