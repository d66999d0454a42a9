//! How the reason of an end travels on QUIC, between egress, entry and client.
//!
//! A stream that ends early is reset or stopped with a code; a connection that ends is closed
//! with one (RFC 9000, sections 3.5 and 10.2). The codes are part of the wire format:
//!
//! | code | where | meaning |
//! |---|---|---|
//! | `0` | both | nothing went wrong |
//! | `0x100 + n` | both | the session or flow ended; `n` is the reason's place in the list below |
//! | `0x1ff` | connection | its client goes on with another one of the same session: no reason, it counts as lost |
//! | `0x200 + n` | connection | refused; `n` is the place of the code in `RefusalCode::ALL` |

use rap_proto::{RefusalCode, observation::EndReason};

/// Nothing went wrong; on a stream: what is asked to stop is no longer wanted.
pub const DONE: u64 = 0;

/// A client goes on with another connection of its session. No release takes it for a reason: to the entry this
/// one is lost, and what was on it waits for the other one.
pub const LEFT_BEHIND: u32 = 0x1ff;

const ENDED: u64 = 0x100;
const REFUSED: u64 = 0x200;

/// What a connection's close code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    Done,
    Ended(EndReason),
    Refused(RefusalCode),
}

impl Close {
    pub fn code(self) -> u64 {
        match self {
            Self::Done => DONE,
            Self::Ended(reason) => ended_code(reason),
            Self::Refused(code) => REFUSED + place(RefusalCode::ALL, &code),
        }
    }

    /// `None` when a peer uses a code that this version does not know.
    pub fn from_code(code: u64) -> Option<Self> {
        if code == DONE {
            return Some(Self::Done);
        }
        if let Some(reason) = ended_reason(code) {
            return Some(Self::Ended(reason));
        }
        at(RefusalCode::ALL, code.checked_sub(REFUSED)?).map(Self::Refused)
    }
}

/// The code that a stream is reset or stopped with.
pub fn ended_code(reason: EndReason) -> u64 {
    ENDED + place(EndReason::ALL, &reason)
}

/// The reason behind a stream's or connection's code.
pub fn ended_reason(code: u64) -> Option<EndReason> {
    at(EndReason::ALL, code.checked_sub(ENDED)?)
}

fn place<T: PartialEq>(list: &[T], one: &T) -> u64 {
    let place = list.iter().position(|each| each == one).expect("ALL lists every variant");
    place as u64
}

fn at<T: Copy>(list: &[T], place: u64) -> Option<T> {
    list.get(usize::try_from(place).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_frozen() {
        let reasons: Vec<_> =
            EndReason::ALL.iter().map(|one| (ended_code(*one), one.as_str())).collect();
        assert_eq!(
            reasons,
            [
                (0x100, "client_closed"),
                (0x101, "client_lost"),
                (0x102, "target_closed"),
                (0x103, "worker_died"),
                (0x104, "path_lost"),
                (0x105, "terminated"),
                (0x106, "node_left"),
                (0x107, "not_used"),
                (0x108, "lease_lost"),
            ]
        );
        assert_eq!(Close::Refused(RefusalCode::Malformed).code(), 0x200);
        assert_eq!(Close::Refused(RefusalCode::PeerNotTrusted).code(), 0x20b);
        assert_eq!(Close::Refused(RefusalCode::NodeDraining).code(), 0x20c);
        assert_eq!(Close::Refused(RefusalCode::LimitReached).code(), 0x214);
    }

    #[test]
    fn every_code_comes_back() {
        let ended = EndReason::ALL.iter().map(|one| Close::Ended(*one));
        let refused = RefusalCode::ALL.iter().map(|one| Close::Refused(*one));
        for close in ended.chain(refused).chain([Close::Done]) {
            assert_eq!(Close::from_code(close.code()), Some(close));
        }
    }

    #[test]
    fn an_unknown_code_is_no_reason() {
        assert_eq!(Close::from_code(LEFT_BEHIND.into()), None);
        assert_eq!(Close::from_code(u64::MAX), None);
        assert_eq!(ended_reason(1), None);
    }
}
