//! What a connection leads to, for tests: it hears the datagrams of the recording drivers, and
//! knows by a rule of its own which of them come late. The product's fence is what is tested, so
//! it is not asked.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rap_agent_core::lease::Recorded;
use rap_proto::{Generation, VpnConnectionId};
use tokio::{sync::watch, time::timeout};

use crate::{Lab, Space};

/// How often a listener looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);
/// The most late datagrams that are remembered one by one.
const MAX_LATE: usize = 64;

/// The newest generation that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub generation: Generation,
    /// Whose.
    pub host: Space,
    /// When it was heard first.
    pub since: Instant,
    /// When the generation before it was heard last; its own beginning when it is the first.
    pub before: Instant,
}

/// A datagram of an older generation after a newer one was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    pub generation: Generation,
    pub newest: Generation,
    pub host: Space,
}

/// One resource, reached by each host over its own loopback: so nothing that is done to the
/// network keeps a host from it.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    heard: watch::Receiver<Option<Heard>>,
    listeners: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ends: AtomicBool,
    heard: watch::Sender<Option<Heard>>,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// The highest generation that was heard of each connection: as many as the test has.
    newest: BTreeMap<VpnConnectionId, Generation>,
    last: Option<Instant>,
    late: Vec<Late>,
    timely: u64,
    untimely: u64,
}

impl Recorder {
    /// Listens on `port` of the loopback of every host.
    pub fn listen(lab: &Lab, hosts: &[Space], port: u16) -> Self {
        let (sender, heard) = watch::channel(None);
        let ledger = Mutex::default();
        let shared = Arc::new(Shared { ends: AtomicBool::new(false), heard: sender, ledger });
        let listener = |host: &Space| {
            let (host, shared) = (*host, Arc::clone(&shared));
            lab.inside(host, move || {
                let socket =
                    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
                socket.set_read_timeout(Some(LOOK)).expect("a timeout above zero");
                shared.listen(&socket, host);
            })
        };
        let listeners = hosts.iter().map(listener).collect();
        Self { shared, heard, listeners }
    }

    /// The newest generation.
    pub fn newest(&self) -> Option<Heard> {
        *self.heard.borrow()
    }

    /// The first generation above `old`.
    ///
    /// # Panics
    /// When none is heard within `patience`.
    pub async fn above(&self, old: Generation, patience: Duration) -> Heard {
        let mut heard = self.heard.clone();
        let newer = |heard: &Option<Heard>| heard.is_some_and(|heard| heard.generation > old);
        let newer = timeout(patience, heard.wait_for(newer)).await;
        let newer = newer.unwrap_or_else(|_| panic!("nothing above {old} within {patience:?}"));
        newer.expect("the recorder listens").expect("it was looked at")
    }

    /// What came late since this was asked last.
    pub fn take_late(&self) -> Vec<Late> {
        std::mem::take(&mut self.shared.ledger().late)
    }

    /// How many datagrams came in time, and how many late.
    pub fn counts(&self) -> (u64, u64) {
        let ledger = self.shared.ledger();
        (ledger.timely, ledger.untimely)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        for listener in self.listeners.drain(..) {
            // One that panicked has said so.
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, socket: &UdpSocket, host: Space) {
        let mut bytes = [0; 64];
        while !self.ends.load(Ordering::Acquire) {
            let Ok(length) = socket.recv(&mut bytes) else { continue };
            if let Some(recorded) = Recorded::from_bytes(&bytes[..length]) {
                self.hear(recorded, host);
            }
        }
    }

    fn hear(&self, recorded: Recorded, host: Space) {
        let now = Instant::now();
        let mut ledger = self.ledger();
        if !ledger.hear(recorded, host) {
            return;
        }
        let generation = recorded.generation;
        let before = ledger.last.replace(now).unwrap_or(now);
        self.heard.send_if_modified(|heard| {
            let newer = heard.is_none_or(|heard| heard.generation < generation);
            if newer {
                *heard = Some(Heard { generation, host, since: now, before });
            }
            newer
        });
    }
}

impl Ledger {
    /// Whether this came in time: nothing newer of its connection was heard before it. What names
    /// no generation never does.
    fn hear(&mut self, Recorded { connection, generation, .. }: Recorded, host: Space) -> bool {
        let newest = self.newest.entry(connection).or_default();
        if generation == Generation::NONE || generation < *newest {
            self.untimely += 1;
            if self.late.len() < MAX_LATE {
                self.late.push(Late { generation, newest: *newest, host });
            }
            return false;
        }
        *newest = generation;
        self.timely += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Space = Space::Entry;
    const NEW: Space = Space::Relay;

    fn recorded(connection: u128, generation: u64) -> Recorded {
        let connection = VpnConnectionId::from_u128(connection);
        Recorded { connection, generation: Generation::new(generation), counter: 1 }
    }

    #[test]
    fn an_older_generation_after_a_newer_one_is_late() {
        let mut ledger = Ledger::default();
        assert!(ledger.hear(recorded(1, 1), OLD));
        assert!(ledger.hear(recorded(1, 3), NEW));
        assert!(!ledger.hear(recorded(1, 2), OLD));
        assert!(ledger.hear(recorded(1, 3), NEW));
        let [generation, newest] = [2, 3].map(Generation::new);
        assert_eq!(ledger.late, [Late { generation, newest, host: OLD }]);
        assert_eq!((ledger.timely, ledger.untimely), (3, 1));
    }

    #[test]
    fn each_connection_has_generations_of_its_own_and_none_is_no_generation() {
        let mut ledger = Ledger::default();
        assert!(ledger.hear(recorded(1, 7), NEW));
        assert!(ledger.hear(recorded(2, 1), OLD));
        assert!(!ledger.hear(recorded(3, 0), OLD));
    }

    #[test]
    fn all_late_ones_are_counted_and_the_first_are_kept() {
        let mut ledger = Ledger::default();
        assert!(ledger.hear(recorded(1, 2), NEW));
        for _ in 0..=MAX_LATE {
            assert!(!ledger.hear(recorded(1, 1), OLD));
        }
        assert_eq!(ledger.late.len(), MAX_LATE);
        assert_eq!(ledger.untimely, MAX_LATE as u64 + 1);
    }
}
