//! The lasting flows that one connection carries, each with its generation: they are told when the
//! connection carries nothing any more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    mesh::locked,
    pipe::{Lasting, WeakLasting},
};

/// INVARIANT: there are as many in it as there are [`Spot`]s; a connection has only so many places.
pub(crate) struct Carried<T> {
    spots: Mutex<Spots<T>>,
}

struct Spots<T> {
    is_lost: bool,
    last: u64,
    /// Who is there, once that is known.
    taken: BTreeMap<u64, Option<T>>,
}

/// A flow's place on the connection, for as long as this lives.
pub(crate) struct Spot<T> {
    all: Arc<Carried<T>>,
    number: u64,
}

/// For saying who has that place. It may be gone by then.
pub(crate) struct Tag<T> {
    all: Arc<Carried<T>>,
    number: u64,
}

/// A flow, and the generation that the connection carries of it.
pub(crate) struct OneFlow {
    flow: WeakLasting,
    generation: u32,
}

pub(crate) type CarriedFlows = Carried<OneFlow>;

impl<T> Default for Carried<T> {
    fn default() -> Self {
        let spots = Spots { is_lost: false, last: 0, taken: BTreeMap::new() };
        Self { spots: Mutex::new(spots) }
    }
}

impl<T> Carried<T> {
    pub(crate) fn spot(self: &Arc<Self>) -> Spot<T> {
        let mut spots = locked(&self.spots);
        spots.last += 1;
        let number = spots.last;
        spots.taken.insert(number, None);
        Spot { all: self.clone(), number }
    }

    /// The connection carries nothing any more. Returns whom it carried, each once.
    fn empty(&self) -> Vec<T> {
        let mut spots = locked(&self.spots);
        spots.is_lost = true;
        spots.taken.values_mut().filter_map(Option::take).collect()
    }
}

impl CarriedFlows {
    /// Tells every flow, also those that are still to be named.
    pub(crate) fn lose(&self) {
        // Whoever leaves gives its place back, which is looked up here.
        self.empty().into_iter().for_each(OneFlow::leave);
    }
}

impl<T> Spot<T> {
    pub(crate) fn tag(&self) -> Tag<T> {
        Tag { all: self.all.clone(), number: self.number }
    }
}

impl<T> Drop for Spot<T> {
    fn drop(&mut self) {
        locked(&self.all.spots).taken.remove(&self.number);
    }
}

impl<T> Tag<T> {
    /// Names who has the place. Returned to be told when the connection is lost already, and nobody
    /// is there to be named when the place was given back.
    fn name(self, who: T) -> Option<T> {
        let mut spots = locked(&self.all.spots);
        let is_lost = spots.is_lost;
        let spot = spots.taken.get_mut(&self.number)?;
        if is_lost {
            return Some(who);
        }
        *spot = Some(who);
        None
    }
}

impl Tag<OneFlow> {
    pub(crate) fn by(self, flow: &Lasting, generation: u32) {
        let told = self.name(OneFlow { flow: flow.downgrade(), generation });
        told.into_iter().for_each(OneFlow::leave);
    }
}

impl OneFlow {
    fn leave(self) {
        self.flow.upgrade().into_iter().for_each(|flow| flow.detach_if(self.generation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(all: &Carried<u32>) -> usize {
        locked(&all.spots).taken.len()
    }

    #[test]
    fn everybody_is_told_once_and_who_is_named_later_hears_it_then() {
        let all: Arc<Carried<u32>> = Arc::default();
        let (first, second) = (all.spot(), all.spot());
        assert_eq!(first.tag().name(1), None);
        assert_eq!((all.empty(), all.empty()), (vec![1], vec![]));
        assert_eq!(second.tag().name(2), Some(2));
        drop((first, second));
        assert_eq!(known(&all), 0);
    }

    #[test]
    fn who_is_named_after_its_place_was_given_back_is_not_kept() {
        let all: Arc<Carried<u32>> = Arc::default();
        let (stays, goes) = (all.spot(), all.spot());
        let late = goes.tag();
        drop(goes);
        assert_eq!(late.name(1), None);
        assert_eq!((known(&all), all.empty()), (1, vec![]));
        drop(stays);
        assert_eq!(known(&all), 0);
    }
}
