//! Waiting for something that can be observed, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The first `Some` of `attempt`, which is repeated.
///
/// # Panics
/// When there is none within `patience`.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < deadline, "did not happen within {patience:?}: {what}");
        sleep(POLL_INTERVAL).await;
    }
}
