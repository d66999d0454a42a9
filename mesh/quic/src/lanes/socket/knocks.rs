//! The one knock that a lane's socket waits for, from wherever it comes.

use std::{net::SocketAddr, sync::Mutex};

use rap_proto::wire::hop::KNOCK_BYTES;
use tokio::sync::Notify;

use crate::mesh::locked;

#[derive(Debug, Default)]
pub(super) struct Knocks {
    state: Mutex<State>,
    comes: Notify,
}

#[derive(Debug, Default)]
struct State {
    expected: Option<(u32, Expected)>,
    heard: Option<(u32, SocketAddr)>,
}

struct Expected([u8; KNOCK_BYTES]);

/// Not the secret.
impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expected")
    }
}

impl Knocks {
    pub(super) fn expect(&self, round: u32, knock: [u8; KNOCK_BYTES]) {
        let mut state = locked(&self.state);
        state.expected = Some((round, Expected(knock)));
        state.heard = None;
    }

    /// Whether it is the knock. The first of a round counts, until it was taken.
    pub(super) fn hear(&self, datagram: &[u8], from: SocketAddr) -> bool {
        // Nearly nothing is as short: the rest looks no further.
        if datagram.len() != KNOCK_BYTES {
            return false;
        }
        let mut state = locked(&self.state);
        let round = match &state.expected {
            Some((round, expected)) if expected.0 == datagram => *round,
            _ => return false,
        };
        if state.heard.is_none() {
            state.heard = Some((round, from));
            self.comes.notify_one();
        }
        true
    }

    /// Each call takes what was heard first since the one before.
    pub(super) async fn heard(&self) -> (u32, SocketAddr) {
        loop {
            if let Some(heard) = locked(&self.state).heard.take() {
                return heard;
            }
            self.comes.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn from(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn the_knock_of_the_newest_round_is_heard_and_the_first_of_it_counts() {
        let knocks = Knocks::default();
        assert!(!knocks.hear(&[1; KNOCK_BYTES], from(1)), "none is waited for");
        knocks.expect(1, [1; KNOCK_BYTES]);
        knocks.expect(2, [2; KNOCK_BYTES]);
        for other in [&[1; KNOCK_BYTES][..], &[2; KNOCK_BYTES - 1], &[2; KNOCK_BYTES + 1], &[]] {
            assert!(!knocks.hear(other, from(1)));
        }
        assert_eq!(knocks.heard().now_or_never(), None);
        assert!(knocks.hear(&[2; KNOCK_BYTES], from(2)));
        assert!(knocks.hear(&[2; KNOCK_BYTES], from(3)));
        assert_eq!(knocks.heard().now_or_never(), Some((2, from(2))));
        assert_eq!(knocks.heard().now_or_never(), None, "it was taken");
    }
}
