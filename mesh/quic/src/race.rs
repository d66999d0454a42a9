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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn after(millis: u64, outcome: Result<u8, u8>) -> Result<u8, u8> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_wins_when_it_answers_before_the_next_starts() {
        let started = Cell::new(false);
        let second = async {
            started.set(true);
            after(0, Ok(2)).await
        };
        let first = Box::pin(after(100, Ok(1)));
        let attempts: Vec<(Duration, futures_util::future::LocalBoxFuture<'_, _>)> =
            vec![(Duration::ZERO, first), (Duration::from_millis(300), Box::pin(second))];
        assert_eq!(race(attempts).await, Ok(1));
        assert!(!started.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_one_overtakes_one_that_does_not_answer() {
        let attempts = vec![
            (Duration::ZERO, after(60_000, Ok(1))),
            (Duration::from_millis(300), after(50, Ok(2))),
        ];
        let start = Instant::now();
        assert_eq!(race(attempts).await, Ok(2));
        assert_eq!(start.elapsed(), Duration::from_millis(350));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_starts_at_once_when_all_before_it_failed() {
        let attempts =
            vec![(Duration::ZERO, after(10, Err(1))), (Duration::from_secs(60), after(10, Ok(2)))];
        let start = Instant::now();
        assert_eq!(race(attempts).await, Ok(2));
        assert_eq!(start.elapsed(), Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn every_error_comes_back_when_all_fail() {
        let attempts =
            vec![(Duration::ZERO, after(10, Err(1))), (Duration::ZERO, after(5, Err(2)))];
        assert_eq!(race(attempts).await, Err(vec![2, 1]));
        assert_eq!(
            race(Vec::<(Duration, std::future::Ready<Result<u8, u8>>)>::new()).await,
            Err(vec![])
        );
    }
}
