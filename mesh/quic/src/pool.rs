//! Connections that are dialled once and shared: one per key, and one dial at a time.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use rap_mesh_core::refusals::refusal;
use rap_proto::{RefusalCode, refusal::Refusal};

use crate::mesh::{Tasks, locked};

/// Something pooled; once it is not usable, the next request dials anew.
pub(crate) trait Pooled: Clone + Send + Sync + 'static {
    fn is_usable(&self) -> bool;
}

/// INVARIANT: only the task of a `Dialling` slot replaces that slot.
pub(crate) struct Pool<K, V> {
    slots: Arc<Mutex<BTreeMap<K, Slot<V>>>>,
    limit: usize,
}

enum Slot<V> {
    Ready(V),
    Dialling(Shared<BoxFuture<'static, Result<V, Refusal>>>),
}

/// A pooled connection, and whether it existed before this request.
pub(crate) struct Pick<V> {
    pub(crate) value: V,
    pub(crate) reused: bool,
}

impl<K: Ord + Copy + Send + 'static, V: Pooled> Pool<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { slots: Arc::default(), limit }
    }

    /// The connection for `key`. When there is none, `dial` makes it, in a task of its own: it
    /// goes on when the asker goes away, and whoever asks meanwhile waits for the same one.
    pub(crate) async fn get<F>(
        &self,
        tasks: &Tasks,
        key: K,
        dial: impl FnOnce() -> F,
    ) -> Result<Pick<V>, Refusal>
    where
        F: Future<Output = Result<V, Refusal>> + Send + 'static,
    {
        let dialling = match self.ready_or_dialling(tasks, key, dial)? {
            Slot::Ready(value) => return Ok(Pick { value, reused: true }),
            Slot::Dialling(dialling) => dialling,
        };
        Ok(Pick { value: dialling.await?, reused: false })
    }

    pub(crate) fn remove_if(&self, key: K, unwanted: impl Fn(&V) -> bool) {
        let mut slots = locked(&self.slots);
        if matches!(slots.get(&key), Some(Slot::Ready(value)) if unwanted(value)) {
            slots.remove(&key);
        }
    }

    pub(crate) fn ready(&self) -> Vec<(K, V)> {
        let slots = locked(&self.slots);
        let ready = slots.iter().filter_map(|(key, slot)| match slot {
            Slot::Ready(value) if value.is_usable() => Some((*key, value.clone())),
            _ => None,
        });
        ready.collect()
    }

    fn ready_or_dialling<F>(
        &self,
        tasks: &Tasks,
        key: K,
        dial: impl FnOnce() -> F,
    ) -> Result<Slot<V>, Refusal>
    where
        F: Future<Output = Result<V, Refusal>> + Send + 'static,
    {
        let mut slots = locked(&self.slots);
        match slots.get(&key) {
            Some(Slot::Ready(value)) if value.is_usable() => return Ok(Slot::Ready(value.clone())),
            Some(Slot::Dialling(dialling)) if dialling.peek().is_none() => {
                return Ok(Slot::Dialling(dialling.clone()));
            }
            // Not usable any more, or dialled by a task that panicked.
            Some(_) => {}
            None if slots.len() >= self.limit => {
                slots.retain(|_, slot| !matches!(slot, Slot::Ready(value) if !value.is_usable()));
                if slots.len() >= self.limit {
                    return Err(refusal(RefusalCode::LimitReached));
                }
            }
            None => {}
        }
        let (shared, dialled) = (self.slots.clone(), dial());
        let task = tasks.spawn(async move {
            let outcome = dialled.await;
            let mut slots = locked(&shared);
            match &outcome {
                Ok(value) => slots.insert(key, Slot::Ready(value.clone())),
                Err(_) => slots.remove(&key),
            };
            outcome
        });
        let dialling = async move {
            task.await.unwrap_or_else(|_| Err(refusal(RefusalCode::PathUnavailable)))
        };
        let dialling = dialling.boxed().shared();
        slots.insert(key, Slot::Dialling(dialling.clone()));
        Ok(Slot::Dialling(dialling))
    }
}

#[cfg(test)]
mod tests;
