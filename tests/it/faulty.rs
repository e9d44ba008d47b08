//! Files as a world in which some calls go wrong.

use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use scheduler_watchdog::config::{Ecs, Endpoint, Scheduler};
use scheduler_watchdog::health::Health;
use scheduler_watchdog::local::LocalWorld;
use scheduler_watchdog::message::Message;
use scheduler_watchdog::plan::Remediation;
use scheduler_watchdog::snapshot::{CallError, LogWindow, Observed, Probe, Readers, ServiceFacts};
use scheduler_watchdog::state::State;
use scheduler_watchdog::world::{StoreError, Version, World};

/// What goes wrong, and what is noted of the calls.
pub trait Faults {
    fn files(&self) -> &LocalWorld;
    /// The log can be read.
    fn log(&self) -> Result<(), CallError>;
    fn publish(&self, message: &Message) -> Result<(), CallError>;
    fn restart(&self, remediation: &Remediation) -> Result<Option<String>, CallError>;
}

/// The world of somebody's files.
pub struct Faulty<F>(pub F);

impl<F> Deref for Faulty<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl<F> DerefMut for Faulty<F> {
    fn deref_mut(&mut self) -> &mut F {
        &mut self.0
    }
}

impl<F: Faults> World for Faulty<F> {
    fn now(&self) -> Timestamp {
        self.files().now()
    }

    fn deadline(&self) -> Option<Timestamp> {
        None
    }

    fn region(&self) -> &str {
        "ap-northeast-1"
    }

    async fn load(&self, scheduler: &str) -> Result<(State, Version), StoreError> {
        self.files().load(scheduler).await
    }

    async fn save(
        &self,
        scheduler: &str,
        state: &State,
        version: Version,
    ) -> Result<Version, StoreError> {
        self.files().save(scheduler, state, version).await
    }

    async fn log(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<LogWindow> {
        match Faults::log(&self.0) {
            Ok(()) => self.files().log(scheduler, from, until).await,
            Err(error) => Observed::Unknown(error),
        }
    }

    async fn probe(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<Probe> {
        self.files().probe(scheduler, from, until).await
    }

    async fn service(&self, ecs: &Ecs) -> Option<Observed<ServiceFacts>> {
        self.files().service(ecs).await
    }

    async fn health(&self, _: &Scheduler) -> Option<Observed<Health>> {
        None
    }

    async fn readers(&self) -> Option<Observed<Readers>> {
        None
    }

    async fn publish(&self, message: &Message) -> Result<(), CallError> {
        Faults::publish(&self.0, message)?;
        self.files().publish(message).await
    }

    async fn restart(
        &self,
        _: &Scheduler,
        remediation: &Remediation,
    ) -> Result<Option<String>, CallError> {
        Faults::restart(&self.0, remediation)
    }

    async fn ping(&self, _: &Endpoint) -> Result<(), CallError> {
        Ok(())
    }
}
