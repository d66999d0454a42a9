#![allow(clippy::unwrap_used)]

use std::{
    future::ready,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{runtime::Handle, sync::Notify};

use super::*;

#[derive(Clone)]
struct Connection {
    number: usize,
    usable: Arc<AtomicBool>,
}

impl Pooled for Connection {
    fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }
}

fn connection(number: usize) -> Connection {
    Connection { number, usable: Arc::new(AtomicBool::new(true)) }
}

async fn get(
    pool: &Pool<u8, Connection>,
    key: u8,
    number: usize,
) -> Result<Pick<Connection>, Refusal> {
    pool.get(&Tasks::on(Handle::current()), key, || ready(Ok(connection(number)))).await
}

#[tokio::test]
async fn a_connection_is_reused_until_it_is_not_usable() {
    let pool = Pool::new(4);
    let first = get(&pool, 1, 1).await.unwrap();
    assert!(!first.reused);
    let second = get(&pool, 1, 2).await.unwrap();
    assert_eq!((second.value.number, second.reused), (1, true));
    second.value.usable.store(false, Ordering::Relaxed);
    let third = get(&pool, 1, 3).await.unwrap();
    assert_eq!((third.value.number, third.reused), (3, false));
    assert_eq!(pool.ready().len(), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_wait_for_one_dial() {
    let pool: Pool<u8, Connection> = Pool::new(4);
    let (tasks, dials, go) =
        (Tasks::on(Handle::current()), AtomicUsize::new(0), Arc::new(Notify::new()));
    let ask = || {
        pool.get(&tasks, 1, || {
            let number = dials.fetch_add(1, Ordering::Relaxed);
            let go = go.clone();
            async move {
                go.notified().await;
                Ok(connection(number))
            }
        })
    };
    let asking = futures_util::future::join_all((0..20).map(|_| ask()));
    let (picks, ()) = tokio::join!(asking, async { go.notify_one() });
    assert!(picks.into_iter().all(|pick| pick.unwrap().value.number == 0));
    assert_eq!(dials.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_dial_goes_on_when_its_asker_goes_away() {
    let pool: Pool<u8, Connection> = Pool::new(4);
    let (tasks, go) = (Tasks::on(Handle::current()), Arc::new(Notify::new()));
    let waiting = go.clone();
    let dial = move || async move {
        waiting.notified().await;
        Ok(connection(7))
    };
    {
        let asking = pool.get(&tasks, 1, dial);
        assert!(futures_util::FutureExt::now_or_never(asking).is_none());
    }
    go.notify_one();
    assert_eq!(get(&pool, 1, 8).await.unwrap().value.number, 7);
}

#[tokio::test]
async fn a_dial_that_failed_or_panicked_is_made_again() {
    let pool: Pool<u8, Connection> = Pool::new(4);
    let failing = || ready(Err(refusal(RefusalCode::PathUnavailable)));
    assert!(pool.get(&Tasks::on(Handle::current()), 1, failing).await.is_err());
    let panicking = || async { panic!("a mistake in a dial") };
    let failed = pool.get(&Tasks::on(Handle::current()), 1, panicking).await;
    assert_eq!(failed.err().unwrap().code, RefusalCode::PathUnavailable);
    assert_eq!(get(&pool, 1, 5).await.unwrap().value.number, 5);
}

#[tokio::test]
async fn a_pool_is_bounded_and_forgets_what_is_not_usable() {
    let pool = Pool::new(2);
    let first = get(&pool, 1, 1).await.unwrap();
    get(&pool, 2, 2).await.unwrap();
    let refused = get(&pool, 3, 3).await.err().unwrap();
    assert_eq!(refused.code, RefusalCode::LimitReached);
    first.value.usable.store(false, Ordering::Relaxed);
    assert_eq!(get(&pool, 3, 3).await.unwrap().value.number, 3);
}
