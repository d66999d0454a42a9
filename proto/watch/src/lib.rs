//! A value that others watch: its newest state counts, not each that it had.
//!
//! What [`tokio::sync::watch`] does, but for one thing: whoever waits wakes in the order in which he began to wait.
//! Tokio spreads those who wait over several lists, and chooses one by chance. Where two tasks wait for one view, chance
//! would say which of them acts first, and one seed of a simulation would be more than one history.

#[cfg(test)]
mod tests;

use std::{
    error, fmt, mem,
    ops::Deref,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use tokio::sync::Notify;

/// A value, and a watch on it that has seen this first state.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// Changes the value. With it gone, there is nothing left to wait for.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// Watches the value, and knows which state it saw last.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value, which nobody changes meanwhile: never held across an `await`.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, State<T>>);

/// The sender is gone, and the newest state was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

#[derive(Debug)]
struct Shared<T> {
    state: RwLock<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    /// How often it changed.
    version: u64,
    is_closed: bool,
}

impl<T> Sender<T> {
    pub fn new(value: T) -> Self {
        let state = RwLock::new(State { value, version: 0, is_closed: false });
        Self(Arc::new(Shared { state, changed: Notify::new() }))
    }

    /// A watch that has seen the value of now.
    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.read().version;
        Receiver { shared: self.0.clone(), seen }
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.read())
    }

    /// Returns what it was.
    pub fn send_replace(&self, value: T) -> T {
        let mut before = value;
        self.send_modify(|value| mem::swap(value, &mut before));
        before
    }

    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Wakes whoever waits when `modify` says that it changed something, and returns what it says.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        self.0.update(|state| {
            let is_modified = modify(&mut state.value);
            state.version += u64::from(is_modified);
            is_modified
        })
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.update(|state| {
            state.is_closed = true;
            true
        });
    }
}

impl<T> Receiver<T> {
    /// The newest state, which stays unseen.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    /// The newest state, which is seen by this.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let state = self.shared.read();
        self.seen = state.version;
        Ref(state)
    }

    /// Whether there is a state that was not seen.
    ///
    /// # Errors
    /// There is none and will be none.
    pub fn has_changed(&self) -> Result<bool, Closed> {
        let state = self.shared.read();
        match state.version != self.seen {
            false if state.is_closed => Err(Closed),
            is_changed => Ok(is_changed),
        }
    }

    /// Waits for a state that was not seen, which is seen by this. Whoever gives up waiting misses nothing.
    ///
    /// # Errors
    /// There will be none.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        let before = self.seen;
        self.next(|state| state.version != before).await.map(drop)
    }

    /// Waits for a state of which this holds, the one of now among them.
    ///
    /// # Errors
    /// There will be none.
    pub async fn wait_for(
        &mut self,
        mut is_so: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        self.next(|state| is_so(&state.value)).await
    }

    async fn next(
        &mut self,
        mut is_so: impl FnMut(&State<T>) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        let Self { shared, seen } = self;
        loop {
            // What changes from here on wakes it.
            let changed = shared.changed.notified();
            {
                let state = shared.read();
                *seen = state.version;
                if is_so(&state) {
                    return Ok(Ref(state));
                }
                if state.is_closed {
                    return Err(Closed);
                }
            }
            changed.await;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        // A state is whole whenever the lock is free: whoever panics in `modify` changed what he changed.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State<T>) -> bool) -> bool {
        let is_changed = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut state)
        };
        if is_changed {
            self.changed.notify_waiters();
        }
        is_changed
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whoever changed the value is gone")
    }
}

impl error::Error for Closed {}
