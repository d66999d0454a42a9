#![allow(clippy::unwrap_used)]

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use super::{Closed, Receiver, Sender, channel};

/// More than tokio wakes in one go, and more than it has lists.
const WAITING: usize = 100;

/// Notes its number when it is woken.
struct Noted(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Noted {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn those_who_wait_wake_in_the_order_in_which_they_began_to() {
    let sender = Sender::new(0);
    let woken = Arc::new(Mutex::new(Vec::new()));
    let mut watches: Vec<Receiver<i32>> = (0..WAITING).map(|_| sender.subscribe()).collect();
    // The last one begins first.
    let mut waiting: Vec<_> = watches
        .iter_mut()
        .enumerate()
        .rev()
        .map(|(number, watch)| (number, Box::pin(watch.changed())))
        .collect();
    for (number, future) in &mut waiting {
        let waker = Waker::from(Arc::new(Noted(*number, woken.clone())));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    sender.send_replace(1);
    let order: Vec<usize> = (0..WAITING).rev().collect();
    assert_eq!(*woken.lock().unwrap(), order);
}

#[test]
fn a_state_is_seen_once_by_each_watch() {
    let (sender, mut one) = channel("first");
    let mut other = one.clone();
    assert_eq!(one.has_changed(), Ok(false));
    assert!(poll(pin!(one.changed())).is_pending());

    assert_eq!(sender.send_replace("second"), "first");
    assert_eq!((*one.borrow(), one.has_changed()), ("second", Ok(true)));
    assert_eq!(poll(pin!(one.changed())), Poll::Ready(Ok(())));
    assert!(poll(pin!(one.changed())).is_pending());
    assert_eq!(*other.borrow_and_update(), "second");
    assert_eq!(other.has_changed(), Ok(false));
    // Whoever comes has seen what is there.
    assert_eq!(sender.subscribe().has_changed(), Ok(false));
}

#[test]
fn what_changes_while_nobody_is_asked_is_not_missed() {
    let (sender, mut watch) = channel(0);
    let mut waiting = Box::pin(watch.changed());
    assert!(poll(waiting.as_mut()).is_pending());
    sender.send_modify(|value| *value += 1);
    // Given up after it was woken: the state is there for whoever waits next.
    drop(waiting);
    assert_eq!(poll(pin!(watch.changed())), Poll::Ready(Ok(())));
    assert!(poll(pin!(watch.changed())).is_pending());
}

#[test]
fn a_condition_waits_for_its_state() {
    let (sender, mut watch) = channel(1);
    assert!(matches!(poll(pin!(watch.wait_for(|value| *value == 1))), Poll::Ready(Ok(_))));
    let mut waiting = Box::pin(watch.wait_for(|value| *value > 2));
    assert!(poll(waiting.as_mut()).is_pending());
    sender.send_replace(2);
    assert!(poll(waiting.as_mut()).is_pending());
    sender.send_replace(3);
    let Poll::Ready(Ok(found)) = poll(waiting.as_mut()) else { panic!("it is 3") };
    assert_eq!(*found, 3);
    drop(found);
    drop(waiting);
    assert_eq!(watch.has_changed(), Ok(false));
}

#[test]
fn nothing_that_did_not_change_wakes_anyone() {
    let (sender, mut watch) = channel(1);
    let woken = Arc::new(Mutex::new(Vec::new()));
    let waker = Waker::from(Arc::new(Noted(0, woken.clone())));
    let mut waiting = Box::pin(watch.changed());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(!sender.send_if_modified(|_| false));
    assert_eq!(*woken.lock().unwrap(), []);
    assert!(sender.send_if_modified(|value| *value == 1));
    assert_eq!(*woken.lock().unwrap(), [0]);
}

#[test]
fn the_last_state_is_seen_before_the_end_is() {
    let (sender, mut watch) = channel(1);
    let mut waits = watch.clone();
    let mut waiting = pin!(waits.wait_for(|value| *value == 3));
    assert!(poll(waiting.as_mut()).is_pending());
    sender.send_replace(2);
    drop(sender);
    assert_eq!(watch.has_changed(), Ok(true));
    assert_eq!(poll(pin!(watch.changed())), Poll::Ready(Ok(())));
    assert_eq!(poll(pin!(watch.changed())), Poll::Ready(Err(Closed)));
    assert_eq!(watch.has_changed(), Err(Closed));
    assert!(matches!(poll(waiting), Poll::Ready(Err(Closed))));
    assert_eq!(*watch.borrow(), 2);
}
