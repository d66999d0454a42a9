//! The process of a node or a replica: its clock, whether it runs, and what waits while it stands
//! still.

use std::mem;

use rap_proto::Moment;

use super::{Chance, clock::DriftClock};

/// Of 1,000 starts, how many are those of the whole host: its clock begins anew.
const HOST_STARTS: u64 = 300;

/// `H` is what comes to it.
pub struct Process<H> {
    pub index: usize,
    pub clock: DriftClock,
    pub chance: Chance,
    pub up: bool,
    /// For when its timer is armed, in true time.
    pub armed: Option<Moment>,
    /// Which run this is; what was asked in an earlier one is answered to nobody.
    pub boot: u32,
    paused: Option<Moment>,
    inbox: Vec<H>,
}

impl<H> Process<H> {
    pub fn new(index: usize, mut chance: Chance) -> Self {
        let clock = DriftClock::draw(&mut chance);
        let (armed, paused, inbox) = (None, None, Vec::new());
        Self { index, clock, chance, up: false, armed, boot: 0, paused, inbox }
    }

    pub fn boot(&mut self) {
        if self.chance.happens(HOST_STARTS) {
            self.clock.restart(&mut self.chance);
        }
        self.up = true;
        self.boot += 1;
    }

    pub fn crash(&mut self) {
        self.up = false;
        self.paused = None;
        self.inbox.clear();
    }

    /// It stands still: no input, no timer.
    pub fn pause(&mut self, now: Moment) {
        self.paused.get_or_insert(now);
    }

    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub fn works(&self) -> bool {
        self.up && !self.is_paused()
    }

    /// What it shall act on now: nothing while it is down, and while it stands still what comes
    /// waits in its sockets.
    pub fn receive(&mut self, happening: H) -> Option<H> {
        match () {
            () if !self.up => None,
            () if self.is_paused() => {
                self.inbox.push(happening);
                None
            }
            () => Some(happening),
        }
    }

    /// It goes on: since when it stood still.
    pub fn resume(&mut self) -> Option<Moment> {
        self.paused.take()
    }

    /// What came while it stood still.
    pub fn waiting(&mut self) -> Vec<H> {
        mem::take(&mut self.inbox)
    }

    /// What its clock shows at this moment of true time.
    pub fn time(&self, now: Moment) -> Moment {
        self.clock.show(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_waits_while_the_process_stands_still_and_dies_with_it() {
        let mut process = Process::new(0, Chance::new(1, 1));
        assert_eq!(process.receive('a'), None, "nobody is there");
        process.boot();
        assert_eq!(process.receive('b'), Some('b'));
        process.pause(Moment::from_micros(7));
        process.pause(Moment::from_micros(8));
        assert_eq!((process.receive('c'), process.works()), (None, false));
        assert_eq!(process.resume(), Some(Moment::from_micros(7)));
        assert_eq!(process.waiting(), ['c']);
        process.pause(Moment::from_micros(9));
        assert_eq!(process.receive('d'), None);
        process.crash();
        process.boot();
        assert_eq!(process.waiting(), []);
        assert!(process.works());
    }
}
