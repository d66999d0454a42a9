//! A race of attempts with staggered starts, as RFC 8305 runs it for addresses.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;

/// Runs `attempts` until one succeeds. Each starts at its time, or as soon as all started before
/// it have failed. Returns every error when all fail. Whatever still runs when one succeeds is
/// dropped.
pub(crate) async fn race<F, T, E>(attempts: Vec<(Duration, F)>) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut waiting = attempts.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut errors = Vec::new();
    loop {
        if running.is_empty() {
            let Some((_, attempt)) = waiting.next() else { return Err(errors) };
            running.push(attempt);
        }
        let next_start = waiting.peek().map(|(after, _)| start + *after);
        tokio::select! {
            biased;
            Some(outcome) = running.next() => match outcome {
                Ok(won) => return Ok(won),
                Err(error) => errors.push(error),
            },
            () = sleep_until(next_start) => {
                running.extend(waiting.next().map(|(_, attempt)| attempt));
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
