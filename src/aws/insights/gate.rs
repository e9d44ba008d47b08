//! How hard all passes of the process together lean on Insights.
//!
//! AWS counts calls per account, so they are spaced here instead of being refused there: a refused
//! call costs time and helps nobody.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::config::Limits;
use crate::snapshot::{CallError, Obstacle};

/// How long no call is made after AWS has said that there are too many: others in the account ask,
/// too, and its buckets fill up within a second.
const HOLD: Duration = Duration::from_secs(1);

/// Places for running queries, and turns for calls.
#[derive(Debug)]
pub(in crate::aws) struct Gate {
    places: Semaphore,
    most: usize,
    /// Turns to call StartQuery.
    pub(super) starts: Turns,
    /// Turns to call GetQueryResults.
    pub(super) polls: Turns,
}

impl Gate {
    pub(in crate::aws) fn new(limits: Limits) -> Self {
        let most = limits.running_queries.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Semaphore::new(most),
            most,
            starts: Turns::new(limits.start_queries_per_second),
            // AWS has the same limit for both calls, and so has the watchdog.
            polls: Turns::new(limits.start_queries_per_second),
        }
    }

    /// A place for one query, held until it is dropped. Who waits longest comes first.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, CallError> {
        // The semaphore is never closed.
        (self.places.acquire().await)
            .map_err(|error| CallError::new(Obstacle::Failed, error.to_string()))
    }

    /// Whether one place at most is taken.
    pub(super) fn is_calm(&self) -> bool {
        self.places.available_permits() + 1 >= self.most
    }
}

/// Spaces calls evenly, without bursts: however long one looks, there is never more than one call more
/// than the rate allows.
///
/// A turn that is free goes to the oldest of those who want one by now. So where calls are scarce,
/// the query that was started first is asked first: it is the one that is most likely done, and the
/// others are asked less often instead. Where they are not, nobody waits.
#[derive(Debug)]
pub(super) struct Turns {
    gap: Duration,
    queue: Mutex<Queue>,
    /// The queue is another one than it was.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// When the next call may be made.
    next: Option<Instant>,
    /// From when on each wants its turn, oldest first.
    waiting: BTreeMap<Ticket, Instant>,
    tickets: u64,
}

/// The age of who waits, and which of that age.
type Ticket = (Instant, u64);

impl Turns {
    fn new(per_second: u32) -> Self {
        Self {
            gap: Duration::from_secs(1) / per_second.max(1),
            queue: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits for a turn, at `due` or after it. `since` tells the age of who asks.
    pub(super) async fn turn(&self, since: Instant, due: Instant) {
        let waiting = Waiting::join(self, since, due);
        let mut wake_up = due;
        loop {
            // A timer takes a millisecond or two to tell that it is time already.
            if wake_up > Instant::now() {
                sleep_until(wake_up).await;
            }
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.with(|queue| queue.take(waiting.ticket, self.gap)) {
                Taken::Yes => return,
                Taken::NotBefore(next) => wake_up = next,
                // Who is older takes it in this very moment, or gives up.
                Taken::ByAnother => changed.await,
            }
        }
    }

    /// Makes no call for a while, because AWS has refused one.
    pub(super) fn hold(&self) {
        let until = Instant::now() + HOLD;
        self.with(|queue| queue.next = queue.next.max(Some(until)));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        // Nothing in here panics half-way.
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

enum Taken {
    Yes,
    NotBefore(Instant),
    ByAnother,
}

impl Queue {
    fn take(&mut self, ticket: Ticket, gap: Duration) -> Taken {
        let now = Instant::now();
        if let Some(next) = self.next.filter(|next| *next > now) {
            return Taken::NotBefore(next);
        }
        let first = self.waiting.iter().find(|(_, due)| **due <= now);
        if first.is_some_and(|(first, _)| *first != ticket) {
            return Taken::ByAnother;
        }
        // Who wakes up a little late does not make all others later, or the rate would fall behind.
        let kept = self.next.map(|next| next + gap).filter(|next| *next > now);
        self.next = Some(kept.unwrap_or(now + gap));
        Taken::Yes
    }
}

/// A place in the queue, left when it is dropped: with a turn, or because it was given up.
struct Waiting<'a> {
    turns: &'a Turns,
    ticket: Ticket,
}

impl<'a> Waiting<'a> {
    fn join(turns: &'a Turns, since: Instant, due: Instant) -> Self {
        let ticket = turns.with(|queue| {
            queue.tickets += 1;
            let ticket = (since, queue.tickets);
            queue.waiting.insert(ticket, due);
            ticket
        });
        Self { turns, ticket }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.with(|queue| queue.waiting.remove(&self.ticket));
        self.turns.changed.notify_waiters();
    }
}

/// How long after its start a running query is asked for its result, in milliseconds. A query that
/// takes up to 5 s is asked 8 times at most; one of 0.1, 1, 2, 3 or 5 s is seen to have ended 0.3 s
/// or a quarter of its time later at most, and any other about a half.
const FIRST_POLLS: [u64; 8] = [250, 550, 850, 1_150, 1_600, 2_250, 3_400, 5_150];

/// The same for a query that runs alone: nobody else needs the account's calls, so it is asked at once,
/// and a small log's answer may be there. Any other is seen to have ended three quarters of its time
/// later at most.
const FIRST_POLLS_ALONE: [u64; 8] = [0, 300, 600, 1_050, 1_600, 2_250, 3_400, 5_150];

/// The least time between two of them: a poll that had to wait for its turn counts for those that
/// it has missed.
const LEAST_GAP: Duration = Duration::from_millis(200);

/// The age at which a query is asked next, after it was asked at `asked`.
pub(super) fn next_poll(asked: Option<Duration>, alone: bool) -> Duration {
    let least = asked.map_or(Duration::ZERO, |asked| asked + LEAST_GAP);
    let first = if alone {
        FIRST_POLLS_ALONE
    } else {
        FIRST_POLLS
    };
    (first.into_iter().map(Duration::from_millis))
        .find(|age| *age >= least)
        // A slow one is seen to have ended a quarter of its time later.
        .unwrap_or_else(|| asked.unwrap_or_default().mul_f64(1.25))
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    /// Who has just come, and wants a turn now.
    async fn now(turns: &Turns) {
        let now = Instant::now();
        turns.turn(now, now).await;
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spaced_and_the_first_does_not_wait() {
        let turns = Turns::new(5);
        let start = Instant::now();
        let first = async {
            now(&turns).await;
            start.elapsed()
        };
        let others = (0..11).map(|_| now(&turns));
        let (first, _) = futures::join!(first, join_all(others));
        assert_eq!(first, Duration::ZERO);
        assert_eq!(start.elapsed().as_millis() / 10, 2_200 / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_keeps_the_pace_and_who_pauses_saves_nothing() {
        let turns = Turns::new(10);
        let start = Instant::now();
        let ms = Duration::from_millis;
        now(&turns).await;
        tokio::time::advance(ms(130)).await;
        now(&turns).await;
        now(&turns).await;
        assert_eq!(start.elapsed(), ms(200));
        tokio::time::advance(ms(5_000)).await;
        for _ in 0..3 {
            now(&turns).await;
        }
        assert_eq!(start.elapsed(), ms(5_200 + 200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_takes_no_turn() {
        let turns = Turns::new(1);
        let start = Instant::now();
        now(&turns).await;
        let given_up = tokio::time::timeout(Duration::from_millis(10), now(&turns)).await;
        assert!(given_up.is_err());
        now(&turns).await;
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    /// The second one is the oldest and was to take the turn at 1 s, but is not there any more.
    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_keeps_nobody_waiting() {
        let turns = Turns::new(1);
        let start = Instant::now();
        now(&turns).await;
        let asleep = async {
            // Its due time has come, and nobody asks it any more.
            let _waiting = Waiting::join(&turns, start - Duration::from_secs(9), start);
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        };
        futures::join!(asleep, now(&turns));
        assert_eq!(start.elapsed().as_millis(), 1_500);
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_who_want_a_turn_by_now_the_oldest_gets_it() {
        let turns = Turns::new(1);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let asked = |name, since, due| {
            let turns = &turns;
            async move {
                turns.turn(since, due).await;
                (start.elapsed().as_secs(), name)
            }
        };
        now(&turns).await;
        let mut order = join_all([
            asked("the oldest, but not before 3 s", at(0), at(3)),
            asked("young", at(4), at(0)),
            asked("old", at(1), at(0)),
            asked("of the same age", at(1), at(0)),
        ])
        .await;
        order.sort_unstable();
        assert_eq!(
            order,
            [
                (1, "old"),
                (2, "of the same age"),
                (3, "the oldest, but not before 3 s"),
                (4, "young"),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_nobody_asks_for_a_second() {
        let turns = Turns::new(10);
        let start = Instant::now();
        now(&turns).await;
        turns.hold();
        now(&turns).await;
        assert_eq!(start.elapsed().as_millis(), 1_000);
        // Shorter than the pause that there is anyway, it changes nothing.
        let turns = Turns::new(1);
        now(&turns).await;
        turns.hold();
        now(&turns).await;
        assert_eq!(start.elapsed().as_millis(), 2_000);
    }

    #[tokio::test]
    async fn there_is_always_one_place_and_one_call_a_second() {
        let gate = Gate::new(Limits {
            running_queries: 0,
            start_queries_per_second: 0,
        });
        let _place = gate.place().await.unwrap();
        now(&gate.starts).await;
        now(&gate.polls).await;
    }

    /// The polls of a query that takes so long, and when its end is seen.
    fn polls(takes: Duration, alone: bool) -> (usize, Duration) {
        let mut polls = 0;
        let mut asked = None;
        loop {
            let age = next_poll(asked, alone);
            polls += 1;
            if age >= takes {
                return (polls, age);
            }
            asked = Some(age);
        }
    }

    #[test]
    fn the_end_of_a_query_is_seen_soon_and_with_few_polls() {
        for (alone, most) in [(false, 0.53), (true, 0.75)] {
            for millis in [100, 300, 500, 1_000, 1_500, 2_000, 3_000, 5_000, 20_000] {
                let takes = Duration::from_millis(millis);
                let (polls, seen) = polls(takes, alone);
                let allowed = (takes / 4).max(Duration::from_millis(300));
                assert!(seen - takes <= allowed, "{takes:?}: {seen:?}");
                assert!(polls <= 8 || millis > 5_000, "{takes:?}: {polls}");
            }
            for millis in 1..=5_150 {
                let takes = Duration::from_millis(millis);
                let (polls, seen) = polls(takes, alone);
                let allowed = takes.mul_f64(most).max(Duration::from_millis(300));
                assert!(seen - takes <= allowed && polls <= 8, "{takes:?}: {seen:?}");
            }
            assert_eq!(polls(Duration::from_secs(60), alone).0, 20);
        }
        assert_eq!(polls(Duration::ZERO, true), (1, Duration::ZERO));
    }

    #[test]
    fn a_poll_that_came_late_counts_for_those_that_it_missed() {
        let after = |millis| next_poll(Some(Duration::from_millis(millis)), false).as_millis();
        assert_eq!(after(310), 550);
        assert_eq!(after(850), 1_150);
        assert_eq!(after(2_290), 3_400);
        assert_eq!(after(5_200), 6_500);
    }
}
