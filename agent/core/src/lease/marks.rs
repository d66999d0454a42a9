//! The fence's marks on this node's disk: the highest generation that was seen of each connection,
//! in one file.
//!
//! ```text
//! want(mark) ── pending(mark) ─┬─ None          it is durable already
//!                              └─ Some(marks)   persist(disk, marks), then kept(marks)
//! ```
//!
//! Whatever is wanted meanwhile goes with the next write, so that many connections that change
//! their holders at once cost few writes.

use std::collections::BTreeMap;

use rap_proto::{Generation, Leased, VpnConnectionId};
use serde::{Deserialize, Serialize};

use crate::{
    disk::{Disk, DiskError, StateFile},
    record::{self, Record, RecordError},
};

/// The most connections of which a mark is kept: as many as a fence remembers.
pub const MAX_MARKS: usize = 16_384;
/// The most bytes of one mark: an id, a number, and the head of each.
const MARK_BYTES: usize = 18 + 9;
/// The file's most bytes.
pub const MAX_MARKS_FILE_BYTES: usize = Marks::MAX_BYTES + record::HEAD_BYTES;

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    marks: BTreeMap<VpnConnectionId, Generation>,
}

impl Record for Marks {
    const KIND: u8 = 9;
    const MAX_BYTES: usize = MAX_MARKS * MARK_BYTES + 64;
}

/// What is durable, and what shall be.
///
/// INVARIANT: no mark is durable that is above the wanted one.
#[derive(Debug, Clone, Default)]
pub struct MarkBook {
    wanted: Marks,
    durable: Marks,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadMarksError {
    #[error("cannot read the state directory: {0}")]
    Disk(#[from] DiskError),
    /// What was let through before is unknown: nothing leased is let through until somebody who
    /// knows that no older holder is active any more removes the file.
    #[error("the fence's marks are damaged: {0}")]
    Damaged(RecordError),
}

/// There are as many marks as may be kept; one more is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fence remembers {MAX_MARKS} connections and no more")]
pub struct MarksFull;

/// Writes the file; it is durable when this returns.
pub fn persist(disk: &mut dyn Disk, marks: &Marks) -> Result<(), DiskError> {
    disk.replace(StateFile::FenceMarks, &record::encode(marks))
}

impl MarkBook {
    /// Reads the file. A node that never saw a leased channel has no marks.
    pub fn load(disk: &dyn Disk) -> Result<Self, LoadMarksError> {
        let Some(bytes) = disk.read(StateFile::FenceMarks)? else { return Ok(Self::default()) };
        let durable: Marks = record::decode(&bytes).map_err(LoadMarksError::Damaged)?;
        Ok(Self { wanted: durable.clone(), durable })
    }

    /// Every mark, in the order of the connections' ids.
    pub fn all(&self) -> impl Iterator<Item = Leased> {
        let marks = self.wanted.marks.iter();
        marks.map(|(connection, generation)| Leased {
            connection: *connection,
            generation: *generation,
        })
    }

    /// From now on this mark goes with every write.
    pub fn want(&mut self, mark: Leased) -> Result<(), MarksFull> {
        let marks = &mut self.wanted.marks;
        if marks.len() >= MAX_MARKS && !marks.contains_key(&mark.connection) {
            return Err(MarksFull);
        }
        raise(marks, mark.connection, mark.generation);
        Ok(())
    }

    /// What has to be written so that `mark` is durable; nothing when it is.
    pub fn pending(&self, mark: Leased) -> Option<Marks> {
        let durable = self.durable.marks.get(&mark.connection);
        let known = durable.is_some_and(|durable| *durable >= mark.generation);
        (!known).then(|| self.wanted.clone())
    }

    /// These were written.
    pub fn kept(&mut self, written: Marks) {
        for (connection, generation) in written.marks {
            raise(&mut self.durable.marks, connection, generation);
        }
    }
}

fn raise(
    marks: &mut BTreeMap<VpnConnectionId, Generation>,
    connection: VpnConnectionId,
    generation: Generation,
) {
    let mark = marks.entry(connection).or_default();
    *mark = generation.max(*mark);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::disk::SimDisk;

    fn mark(connection: u128, generation: u64) -> Leased {
        let connection = VpnConnectionId::from_u128(connection);
        Leased { connection, generation: Generation::new(generation) }
    }

    fn keep(book: &mut MarkBook, disk: &mut SimDisk, mark: Leased) -> Result<(), DiskError> {
        book.want(mark).unwrap();
        let Some(marks) = book.pending(mark) else { return Ok(()) };
        persist(disk, &marks)?;
        book.kept(marks);
        Ok(())
    }

    #[test]
    fn a_power_cut_at_any_byte_leaves_the_old_marks_or_the_new() {
        let (old, other, new) = (mark(1, 6), mark(2, 3), mark(1, 7));
        for survives in [false, true] {
            for cut in 0.. {
                let mut disk = SimDisk::new();
                let mut book = MarkBook::load(&disk).unwrap();
                keep(&mut book, &mut disk, old).unwrap();
                keep(&mut book, &mut disk, other).unwrap();
                disk.cut_after(cut, survives);
                let written = keep(&mut book, &mut disk, new);
                disk.restore_power();
                let found: Vec<Leased> = MarkBook::load(&disk).unwrap().all().collect();
                assert!(found == [old, other] || found == [new, other], "{cut}: {found:?}");
                if written.is_ok() {
                    assert_eq!(found, [new, other]);
                    break;
                }
                assert_eq!(book.pending(new).is_some(), written.is_err(), "tried again");
            }
        }
    }

    #[test]
    fn a_mark_never_falls_and_one_write_takes_all_that_are_wanted() {
        let mut disk = SimDisk::new();
        let mut book = MarkBook::default();
        book.want(mark(1, 5)).unwrap();
        book.want(mark(2, 5)).unwrap();
        book.want(mark(1, 4)).unwrap();
        let marks = book.pending(mark(1, 4)).unwrap();
        persist(&mut disk, &marks).unwrap();
        book.kept(marks);
        assert_eq!(book.pending(mark(2, 5)), None);
        assert_eq!(book.pending(mark(1, 5)), None);
        assert!(book.pending(mark(1, 6)).is_some());
        let found: Vec<Leased> = MarkBook::load(&disk).unwrap().all().collect();
        assert_eq!(found, [mark(1, 5), mark(2, 5)]);
    }

    #[test]
    fn as_many_marks_as_may_be_kept_fit_into_the_file() {
        let mut disk = SimDisk::new();
        let mut book = MarkBook::default();
        let greatest = |connection: usize| mark(u128::MAX - connection as u128, u64::MAX);
        for connection in 0..MAX_MARKS {
            book.want(greatest(connection)).unwrap();
        }
        assert_eq!(book.want(greatest(MAX_MARKS)), Err(MarksFull));
        assert_eq!(book.want(greatest(0)), Ok(()), "known ones go on");
        persist(&mut disk, &book.pending(greatest(0)).unwrap()).unwrap();
        assert_eq!(MarkBook::load(&disk).unwrap().all().count(), MAX_MARKS);
    }

    #[test]
    fn damaged_marks_are_no_marks() {
        let mut disk = SimDisk::new();
        let mut book = MarkBook::load(&disk).unwrap();
        keep(&mut book, &mut disk, mark(1, 7)).unwrap();
        disk.tamper(StateFile::FenceMarks, |bytes| bytes.truncate(50));
        let torn = LoadMarksError::Damaged(RecordError::Torn);
        assert_eq!(MarkBook::load(&disk).unwrap_err(), torn);
    }
}
