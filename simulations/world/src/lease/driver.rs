//! The driver of one connection at one node: it takes a while to start, and to stop.

use rap_proto::Generation;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    #[default]
    Off,
    Starting(Generation),
    On(Generation),
    /// Told to stop; what it holds back may still leave.
    Stopping(Generation),
}

/// What a driver has come to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Started(Generation),
    NotStarted(Generation),
    Stopped(Generation),
}

impl Driver {
    pub const fn generation(self) -> Option<Generation> {
        match self {
            Self::Off => None,
            Self::Starting(generation) | Self::On(generation) | Self::Stopping(generation) => {
                Some(generation)
            }
        }
    }

    /// Takes in what was done, unless something else was wanted in the meantime.
    pub fn done(&mut self, done: Done) {
        *self = match (done, *self) {
            (Done::Started(one), Self::Starting(other)) if one == other => Self::On(one),
            (Done::NotStarted(one), Self::Starting(other)) if one == other => Self::Off,
            (Done::Stopped(one), Self::Stopping(other)) if one == other => Self::Off,
            (_, same) => same,
        };
    }
}
