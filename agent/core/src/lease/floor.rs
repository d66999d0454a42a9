//! The newest generation that this node agreed to hold, on its disk before it acts on it.

use rap_proto::{Generation, VpnConnectionId};
use serde::{Deserialize, Serialize};

use crate::{
    disk::{Disk, DiskError, StateFile},
    record::{self, Record, RecordError},
};

/// One connection's file. A grant that is not above it is not taken, whoever repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFloor {
    pub generation: Generation,
}

impl Record for LeaseFloor {
    const KIND: u8 = 7;
    const MAX_BYTES: usize = 64;
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the state directory: {0}")]
    Disk(#[from] DiskError),
    /// What this node held before is unknown: it holds nothing for this connection until control
    /// has fenced what it may have held, and somebody removes the file.
    #[error("the lease floor is damaged: {0}")]
    Damaged(RecordError),
}

/// Writes the floor; it is durable when this returns. One that is as high already stays.
pub fn persist(
    disk: &mut dyn Disk,
    connection: VpnConnectionId,
    generation: Generation,
) -> Result<(), DiskError> {
    if load(disk, connection).is_ok_and(|known| known >= generation) {
        return Ok(());
    }
    let floor = record::encode(&LeaseFloor { generation });
    disk.replace(StateFile::LeaseFloor(connection), &floor)
}

/// Reads the floor; a node that never held this connection has [`Generation::NONE`].
pub fn load(disk: &dyn Disk, connection: VpnConnectionId) -> Result<Generation, LoadError> {
    let Some(bytes) = disk.read(StateFile::LeaseFloor(connection))? else {
        return Ok(Generation::NONE);
    };
    let floor: LeaseFloor = record::decode(&bytes).map_err(LoadError::Damaged)?;
    Ok(floor.generation)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::disk::SimDisk;

    const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(1);

    #[test]
    fn a_power_cut_at_any_byte_leaves_the_old_floor_or_the_new() {
        let (old, new) = (Generation::new(6), Generation::new(7));
        for survives in [false, true] {
            for cut in 0.. {
                let mut disk = SimDisk::new();
                persist(&mut disk, CONNECTION, old).unwrap();
                disk.cut_after(cut, survives);
                let written = persist(&mut disk, CONNECTION, new);
                disk.restore_power();
                let found = load(&disk, CONNECTION).unwrap();
                assert!(found == new || found == old, "{cut}");
                if written.is_ok() {
                    assert_eq!(found, new);
                    break;
                }
            }
        }
    }

    #[test]
    fn a_floor_that_is_written_late_lowers_nothing() {
        let mut disk = SimDisk::new();
        persist(&mut disk, CONNECTION, Generation::new(7)).unwrap();
        persist(&mut disk, CONNECTION, Generation::new(6)).unwrap();
        assert_eq!(load(&disk, CONNECTION), Ok(Generation::new(7)));
    }

    #[test]
    fn a_damaged_floor_is_no_floor_and_a_missing_one_is_none() {
        let mut disk = SimDisk::new();
        assert_eq!(load(&disk, CONNECTION), Ok(Generation::NONE));
        persist(&mut disk, CONNECTION, Generation::new(7)).unwrap();
        disk.tamper(StateFile::LeaseFloor(CONNECTION), |bytes| bytes.truncate(20));
        assert_eq!(load(&disk, CONNECTION), Err(LoadError::Damaged(RecordError::Torn)));
    }
}
