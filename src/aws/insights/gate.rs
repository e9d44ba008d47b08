//! How hard all passes of the process together lean on Insights.

use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::config::Limits;
use crate::snapshot::{CallError, Obstacle};

/// Places for running queries, and turns for calls. Who waits longest comes first.
#[derive(Debug)]
pub(in crate::aws) struct Gate {
    places: Semaphore,
    starts: Pace,
    polls: Pace,
}

impl Gate {
    pub(in crate::aws) fn new(limits: Limits) -> Self {
        Self {
            places: Semaphore::new(limits.running_queries.clamp(1, Semaphore::MAX_PERMITS)),
            starts: Pace::new(limits.start_queries_per_second),
            // AWS has the same limit for both calls, and so has the watchdog.
            polls: Pace::new(limits.start_queries_per_second),
        }
    }

    /// A place for one query, held until it is dropped.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, CallError> {
        // The semaphore is never closed.
        (self.places.acquire().await)
            .map_err(|error| CallError::new(Obstacle::Failed, error.to_string()))
    }

    /// Waits for a turn to call StartQuery.
    pub(super) async fn start_turn(&self) {
        self.starts.turn().await;
    }

    /// Waits for a turn to call GetQueryResults.
    pub(super) async fn poll_turn(&self) {
        self.polls.turn().await;
    }
}

/// Spaces calls evenly, without bursts: no second, wherever it is cut, sees more than allowed.
#[derive(Debug)]
struct Pace {
    gap: Duration,
    /// When the next call may be made. The lock is a queue: tokio's mutex is fair.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self {
            gap: Duration::from_secs(1) / per_second.max(1),
            next: Mutex::new(None),
        }
    }

    async fn turn(&self) {
        let mut next = self.next.lock().await;
        if let Some(next) = *next {
            sleep_until(next).await;
        }
        *next = Some(Instant::now() + self.gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_spaced_and_the_first_does_not_wait() {
        let pace = Pace::new(5);
        let start = Instant::now();
        let turns = (0..11).map(|_| pace.turn());
        let first = async {
            pace.turn().await;
            start.elapsed()
        };
        let (first, _) = futures::join!(first, futures::future::join_all(turns));
        assert_eq!(first, Duration::ZERO);
        assert_eq!(start.elapsed().as_millis() / 10, 2_200 / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_takes_no_turn() {
        let pace = Pace::new(1);
        let start = Instant::now();
        pace.turn().await;
        let given_up = tokio::time::timeout(Duration::from_millis(10), pace.turn()).await;
        assert!(given_up.is_err());
        pace.turn().await;
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test]
    async fn there_is_always_one_place_and_one_call_a_second() {
        let gate = Gate::new(Limits {
            running_queries: 0,
            start_queries_per_second: 0,
        });
        let _place = gate.place().await.unwrap();
        gate.start_turn().await;
        gate.poll_turn().await;
    }
}
