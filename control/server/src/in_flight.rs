//! The commands that are being worked on: a repetition meanwhile is told to come back.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use rap_proto::{
    CommandId,
    api::{Problem, ProblemCode},
};

/// The most commands that are worked on at once.
pub(crate) const MAX_COMMANDS_IN_FLIGHT: usize = 1_024;

#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<BTreeSet<CommandId>>>);

/// Ends the command's flight when dropped, however it ended.
#[derive(Debug)]
pub(crate) struct Flight {
    all: InFlight,
    command: CommandId,
}

impl InFlight {
    pub(crate) fn enter(&self, command: CommandId) -> Result<Flight, Problem> {
        let mut commands = self.0.lock().expect("no holder of the lock panics");
        if commands.len() >= MAX_COMMANDS_IN_FLIGHT {
            return Err(Problem::new(ProblemCode::LimitReached, "too many commands at once")
                .rule("max_commands_in_flight"));
        }
        if !commands.insert(command) {
            return Err(Problem::new(
                ProblemCode::IdempotencyKeyInFlight,
                "the same command is being worked on; repeat it shortly",
            ));
        }
        Ok(Flight { all: self.clone(), command })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.all.0.lock().expect("no holder of the lock panics").remove(&self.command);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_flight_per_command_and_a_bound_on_all() {
        let all = InFlight::default();
        let first = all.enter(CommandId::from_u128(1)).unwrap();
        let again = all.enter(CommandId::from_u128(1)).unwrap_err();
        assert_eq!(again.code(), Some(ProblemCode::IdempotencyKeyInFlight));
        drop(first);
        let flights = (1..=MAX_COMMANDS_IN_FLIGHT as u128)
            .map(|n| all.enter(CommandId::from_u128(n)).unwrap())
            .collect::<Vec<_>>();
        let over = all.enter(CommandId::from_u128(0)).unwrap_err();
        assert_eq!(over.code(), Some(ProblemCode::LimitReached));
        drop(flights);
    }
}
