//! Probing a path without a connection: a datagram of a QUIC version that nobody speaks, which
//! every QUIC server answers from what it holds alone (RFC 8999, section 6; RFC 9000, section
//! 6.1).
//!
//! The id is the probe's both connection ids and comes back in the answer. It follows from the
//! lane's own keys, so only who saw the probe can answer it. An answer says that the path works at
//! this moment and nothing else; who is at its end the lane's connection knows.

use std::collections::VecDeque;

use quinn::Connection;

use super::socket::Answer;

/// The least that a server answers (RFC 9000, section 14.1).
pub(super) const PROBE_BYTES: usize = 1200;
/// The most probes whose answers are waited for.
pub(super) const MAX_PROBES: usize = 32;

const ID_BYTES: usize = 16;
/// Reserved to be understood by nobody (RFC 9000, section 15).
const VERSION: [u8; 4] = [0x5a, 0x6a, 0x7a, 0x8a];
const LONG_HEADER: u8 = 0x80;
const LABEL: &[u8] = b"EXPORTER-rap-lane-probe";

pub(super) type ProbeId = [u8; ID_BYTES];

/// The id of one probe of a lane; `None` while the lane has no keys.
pub(super) fn id(connection: &Connection, probe: u64) -> Option<ProbeId> {
    let mut id = ProbeId::default();
    connection.export_keying_material(&mut id, LABEL, &probe.to_be_bytes()).ok()?;
    Some(id)
}

pub(super) fn datagram(id: &ProbeId) -> [u8; PROBE_BYTES] {
    let length = ID_BYTES as u8;
    let mut datagram = [0; PROBE_BYTES];
    datagram[0] = LONG_HEADER | 0x40;
    datagram[1..5].copy_from_slice(&VERSION);
    datagram[5] = length;
    datagram[6..22].copy_from_slice(id);
    datagram[22] = length;
    datagram[23..39].copy_from_slice(id);
    datagram
}

/// The id that a datagram answers, if it is a version negotiation.
pub(super) fn answered(datagram: &[u8]) -> Option<ProbeId> {
    let (head, rest) = datagram.split_first_chunk::<6>()?;
    let is_answer =
        head[0] & LONG_HEADER != 0 && head[1..5] == [0; 4] && usize::from(head[5]) == ID_BYTES;
    is_answer.then(|| rest.first_chunk::<ID_BYTES>().copied()).flatten()
}

/// Probes whose answers are waited for, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Probes {
    waiting: VecDeque<(ProbeId, Answer)>,
}

impl Probes {
    pub(super) fn sent(&mut self, id: ProbeId, answer: Answer) {
        if self.waiting.len() >= MAX_PROBES {
            self.waiting.pop_front();
        }
        self.waiting.push_back((id, answer));
    }

    /// Each probe is answered once.
    pub(super) fn answered(&mut self, id: &ProbeId) -> Option<Answer> {
        let place = self.waiting.iter().position(|(waiting, _)| waiting == id)?;
        self.waiting.remove(place).map(|(_, answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const fn answer(probe: u64) -> Answer {
        Answer { generation: 1, probe }
    }

    #[test]
    fn a_probe_is_no_answer_and_only_a_whole_answer_is_one() {
        let id = [7; ID_BYTES];
        assert_eq!(answered(&datagram(&id)), None);
        let mut answer = vec![0xd1, 0, 0, 0, 0, 16];
        answer.extend_from_slice(&id);
        assert_eq!(answered(&answer), Some(id));
        for length in 0..answer.len() {
            assert_eq!(answered(&answer[..length]), None);
        }
        answer[0] &= !LONG_HEADER;
        assert_eq!(answered(&answer), None, "a short header holds no version");
    }

    #[test]
    fn each_probe_is_answered_once_and_the_oldest_are_forgotten() {
        let mut probes = Probes::default();
        let id = |number: usize| -> ProbeId { [u8::try_from(number).unwrap(); ID_BYTES] };
        for number in 0..=MAX_PROBES {
            probes.sent(id(number), answer(number as u64));
        }
        assert_eq!(probes.answered(&id(0)), None);
        assert_eq!(probes.answered(&id(1)), Some(answer(1)));
        assert_eq!(probes.answered(&id(1)), None);
        assert_eq!(probes.waiting.len(), MAX_PROBES - 1);
    }
}
