//! What a pass needs from outside: a clock, logs, ECS, a store and a way to tell people.
//!
//! Two real worlds implement it: AWS ([`crate::aws`]) and files ([`crate::local`], also with a
//! simulated clock). The pass does not know which one it is in.

use jiff::Timestamp;

use crate::config::{Ecs, Endpoint, Scheduler};
use crate::health::Health;
use crate::message::Message;
use crate::plan::Remediation;
use crate::snapshot::{CallError, LogWindow, Observed, Probe, Readers, ServiceFacts};
use crate::state::{State, Unreadable};

/// The version of a stored state, for the conditional write; 0 before the first write.
pub type Version = u64;

/// A look at a scheduler's log.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Whose.
    pub scheduler: &'a Scheduler,
    /// The span's beginning.
    pub from: Timestamp,
    /// The span's end.
    pub until: Timestamp,
}

/// Everything outside.
#[expect(
    async_fn_in_trait,
    reason = "passes are awaited in place, never spawned on threads"
)]
pub trait World {
    /// The time.
    fn now(&self) -> Timestamp;

    /// When the pass must have ended, if anything ends it.
    fn deadline(&self) -> Option<Timestamp>;

    /// The AWS region, for links and commands in messages; empty if unknown.
    fn region(&self) -> &str;

    /// Reads a scheduler's state; a new one if there is none.
    async fn load(&self, scheduler: &str) -> Result<(State, Version), StoreError>;

    /// Writes a scheduler's state if it is still at `version`, and returns the new version.
    async fn save(
        &self,
        scheduler: &str,
        state: &State,
        version: Version,
    ) -> Result<Version, StoreError>;

    /// The scheduler's lines of a span, read.
    async fn log(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<LogWindow>;

    /// The same for schedulers that have the same log groups, so that one query may do for all of
    /// them. None for a scheduler whose turn did not come before looks have to end.
    async fn logs(&self, looks: &[Look<'_>]) -> Vec<Option<Observed<LogWindow>>> {
        let mut seen = Vec::with_capacity(looks.len());
        for look in looks {
            seen.push(Some(self.log(look.scheduler, look.from, look.until).await));
        }
        seen
    }

    /// Ends when nobody need wait any longer for a state that has not been loaded since this was
    /// called: the pass goes on with the others. Where states come at once, or not at all, never.
    async fn states_are_late(&self) {
        std::future::pending().await
    }

    /// Ends when a restart need not wait any longer until the other schedulers have been judged, too.
    /// Where looks come at once, or not at all, never.
    async fn looks_are_late(&self) {
        std::future::pending().await
    }

    /// The newest lines of any kind in a span.
    async fn probe(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<Probe>;

    /// What ECS says of the service or the tasks; none in a world without ECS.
    async fn service(&self, ecs: &Ecs) -> Option<Observed<ServiceFacts>>;

    /// What the application's health endpoint says; none where none is configured, and in a world
    /// that is not the present.
    async fn health(&self, scheduler: &Scheduler) -> Option<Observed<Health>>;

    /// Who is subscribed to the alerts; none in a world without subscriptions.
    async fn readers(&self) -> Option<Observed<Readers>>;

    /// Delivers a message.
    async fn publish(&self, message: &Message) -> Result<(), CallError>;

    /// Makes a restart. Returns what it started: a deployment's id, or a task's; none for a
    /// stopped task.
    async fn restart(
        &self,
        scheduler: &Scheduler,
        remediation: &Remediation,
    ) -> Result<Option<String>, CallError>;

    /// Tells a dead man's switch that a pass is complete.
    async fn ping(&self, endpoint: &Endpoint) -> Result<(), CallError>;
}

/// Why a state could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another pass wrote it first, and does what is to be done.
    #[error("another pass wrote the state first")]
    Conflict,
    /// The document is there, but cannot be used.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The store did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}
