use rap_proto::{Generation, VpnConnectionId};

/// The length of one datagram of the recording driver.
pub const RECORDED_BYTES: usize = 32;

/// What the recording driver sends in the place of a packet: connection (16 bytes), generation and
/// counter (8 bytes each, big-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    pub connection: VpnConnectionId,
    pub generation: Generation,
    /// From 1, anew with each activation.
    pub counter: u64,
}

impl Recorded {
    pub fn to_bytes(self) -> [u8; RECORDED_BYTES] {
        let mut bytes = [0; RECORDED_BYTES];
        bytes[..16].copy_from_slice(self.connection.uuid().as_bytes());
        bytes[16..24].copy_from_slice(&self.generation.number().to_be_bytes());
        bytes[24..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// `None` when it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (connection, rest) = bytes.split_first_chunk::<16>()?;
        let (generation, counter) = rest.split_first_chunk::<8>()?;
        let counter = u64::from_be_bytes(counter.try_into().ok()?);
        Some(Self {
            connection: VpnConnectionId::from_u128(u128::from_be_bytes(*connection)),
            generation: Generation::new(u64::from_be_bytes(*generation)),
            counter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_read_and_nothing_else_is_read() {
        let sent = Recorded {
            connection: VpnConnectionId::from_u128(0x0123_4567_89ab_cdef << 64 | 5),
            generation: Generation::new(1 << 40),
            counter: u64::MAX,
        };
        let bytes = sent.to_bytes();
        assert_eq!(Recorded::from_bytes(&bytes), Some(sent));
        assert_eq!(Recorded::from_bytes(&bytes[1..]), None);
        assert_eq!(Recorded::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }
}
