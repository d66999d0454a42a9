//! What a connection leads to, for tests: it hears the datagrams of the recording drivers, behind
//! the fence.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rap_agent_core::lease::Recorded;
use rap_mesh_core::fence::{Admitted, Fence};
use rap_proto::{Generation, Leased};
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
    fence: Fence,
    last: Option<Instant>,
    late: Vec<Late>,
    accepted: u64,
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

    /// How many datagrams passed the fence, and how many it refused.
    pub fn counts(&self) -> (u64, u64) {
        let ledger = self.shared.ledger();
        (ledger.accepted, ledger.fence.refused())
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

    fn hear(&self, Recorded { connection, generation, .. }: Recorded, host: Space) {
        let now = Instant::now();
        let mut ledger = self.ledger();
        let leased = Leased { connection, generation };
        let passed = match ledger.fence.admit(leased) {
            Ok(Admitted::Current) => true,
            // This resource lives as long as its fence: nothing has to be made durable.
            Ok(Admitted::Raise(mark)) => ledger.fence.raised(mark).is_ok(),
            Err(_) => false,
        };
        if !passed {
            let newest = ledger.fence.highest(connection).unwrap_or_default();
            if ledger.late.len() < MAX_LATE {
                ledger.late.push(Late { generation, newest, host });
            }
            return;
        }
        ledger.accepted += 1;
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
