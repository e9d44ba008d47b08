//! The world of files: logs and ECS's answers from files, state in memory or in a file, and a
//! clock that is set by hand. No AWS is needed.

pub mod log;
mod service;
mod store;
pub mod time;
mod timeline;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::{Config, Ecs, Endpoint, Scheduler};
use crate::health::Health;
use crate::http::Http;
use crate::line::{self, Kind, Line, LogEvent};
use crate::message::Message;
use crate::plan::Remediation;
use crate::snapshot::{CallError, Deployment, LogWindow, Observed, Probe, Readers, ServiceFacts};
use crate::state::State;
use crate::world::{StoreError, Version, World};

pub use log::LogError;
pub use service::{ServiceError, ServiceHistory};
use store::Store;
pub use timeline::{Builder, Span, Timeline};

/// The most lines that a look at the log gives; the limit of the Insights query that a deployed
/// watchdog makes.
const MOST_LINES: usize = 10_000;

/// How much of a log is held as lines at a time where all of it is read.
const CHUNK: SignedDuration = SignedDuration::from_hours(24);

/// How far back a chunk's reading begins, so that no line is torn at its edge.
const LEAD: SignedDuration = SignedDuration::from_mins(5);

/// A world made of files.
#[derive(Debug)]
pub struct LocalWorld {
    clock: Cell<Timestamp>,
    /// The one moment at which a health endpoint can be asked.
    present: Option<Timestamp>,
    http: Http,
    timeline: Timeline,
    service: Option<ServiceHistory>,
    store: Store,
    published: RefCell<Vec<Message>>,
    region: String,
}

/// The files that a world is made of.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Logs; `-` is standard input.
    pub logs: Vec<PathBuf>,
    /// What ECS said, one look a line.
    pub service: Option<PathBuf>,
    /// Where state is kept; in memory, if nowhere.
    pub state: Option<PathBuf>,
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file of what ECS said.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl LocalWorld {
    /// Reads the files. `note` is told what is worth knowing about them. The clock stands at
    /// the epoch.
    ///
    /// Times in plain text that name no zone and that the scheduler itself printed are in the
    /// zone of the first scheduler of the configuration.
    ///
    /// # Errors
    /// A file cannot be read or understood.
    pub fn read(
        config: &Config,
        files: &Files,
        note: &mut dyn FnMut(String),
    ) -> Result<Self, FileError> {
        let zone = config
            .schedulers
            .first()
            .map_or(TimeZone::UTC, |scheduler| scheduler.timezone.clone());
        let mut builder = Builder::new(&config.schedulers);
        for path in &files.logs {
            let notes = builder.read_file(path, &zone)?;
            let name = path.display().to_string();
            notes.sentences(&name).into_iter().for_each(&mut *note);
        }
        let service = (files.service.as_deref())
            .map(ServiceHistory::read_file)
            .transpose()?;
        let mut world = Self::new(builder.build(), service);
        if let Some(path) = &files.state {
            world.store = Store::File(path.clone());
        }
        world.region = config.region().to_owned();
        Ok(world)
    }

    /// A world of what was read elsewhere, with its state in memory. The clock stands at the
    /// epoch.
    pub fn new(timeline: Timeline, service: Option<ServiceHistory>) -> Self {
        Self {
            clock: Cell::new(Timestamp::UNIX_EPOCH),
            present: None,
            http: Http::default(),
            timeline,
            service,
            store: Store::Memory(RefCell::default()),
            published: RefCell::default(),
            region: String::new(),
        }
    }

    /// Tries whether what is to be remembered can be written.
    ///
    /// # Errors
    /// The state file, or one beside it, cannot be written.
    pub fn try_to_remember(&self) -> std::io::Result<()> {
        self.store.try_to_write()
    }

    /// Sets the clock.
    pub fn set_now(&self, now: Timestamp) {
        self.clock.set(now);
    }

    /// Says that a moment is the present: health endpoints are asked when the clock stands there,
    /// and at no other time, because they tell nothing of the past.
    pub fn set_present(&mut self, present: Timestamp) {
        self.present = Some(present);
    }

    /// From the first to the last event of the logs; none if they hold none.
    pub fn span(&self) -> Option<Span> {
        self.timeline.span()
    }

    /// Reads a scheduler's lines in `[from, until]` once, whenever they arrived, and hands them
    /// on a day at a time: in order, with the moment before which no more will come.
    pub fn lines(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
        sink: &mut dyn FnMut(&[Line], Timestamp),
    ) {
        let prefix = &scheduler.log_stream_prefix;
        let mut begin = from;
        while begin <= until {
            let end = begin.checked_add(CHUNK).map_or(until, |end| end.min(until));
            // What began in the chunk before may end in this one.
            let lead = begin.checked_sub(LEAD).unwrap_or(begin);
            let span = (lead, end);
            let (window, _) = (self.timeline).window(prefix, span, Timestamp::MAX, usize::MAX);
            let mut lines = line::read(&scheduler.preset, window.events());
            let is_last = end == until;
            lines.retain(|line| {
                line.kind != Kind::Other && line.at >= begin && (is_last || line.at < end)
            });
            sink(&lines, end);
            if is_last {
                break;
            }
            begin = end;
        }
    }

    /// The deployments that the file of what ECS said tells of, oldest first.
    pub fn deployments(&self, ecs: &Ecs) -> Vec<Deployment> {
        (self.service.as_ref()).map_or_else(Vec::new, |service| service.deployments(ecs))
    }

    /// Takes the messages that were published since the last call.
    pub fn take_published(&self) -> Vec<Message> {
        self.published.take()
    }
}

impl World for LocalWorld {
    fn now(&self) -> Timestamp {
        self.clock.get()
    }

    fn region(&self) -> &str {
        &self.region
    }

    fn deadline(&self) -> Option<Timestamp> {
        None
    }

    async fn load(&self, scheduler: &str) -> Result<(State, Version), StoreError> {
        self.store.load(scheduler)
    }

    async fn save(
        &self,
        scheduler: &str,
        state: &State,
        version: Version,
    ) -> Result<Version, StoreError> {
        self.store.save(scheduler, state, version, self.now())
    }

    async fn log(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<LogWindow> {
        let prefix = &scheduler.log_stream_prefix;
        let (window, truncated) =
            (self.timeline).window(prefix, (from, until), self.now(), MOST_LINES);
        let events = window.events();
        let mut lines = line::read(&scheduler.preset, events);
        lines.retain(|line| line.kind != Kind::Other);
        Observed::Known(LogWindow {
            from,
            until,
            lines,
            truncated,
            scanned_bytes: None,
            lag: lag(events),
        })
    }

    async fn probe(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<Probe> {
        let prefix = &scheduler.log_stream_prefix;
        let newest = self.timeline.newest(prefix, (from, until), self.now());
        Observed::Known(Probe { newest })
    }

    async fn service(&self, ecs: &Ecs) -> Option<Observed<ServiceFacts>> {
        let history = self.service.as_ref()?;
        history.at(ecs, self.now()).map(Observed::Known)
    }

    async fn health(&self, scheduler: &Scheduler) -> Option<Observed<Health>> {
        let endpoint = (scheduler.health.as_ref()).filter(|_| self.present == Some(self.now()))?;
        let answer = self.http.health(endpoint, &scheduler.timezone).await;
        Some(match answer {
            Ok(health) => Observed::Known(health),
            Err(error) => Observed::Unknown(error),
        })
    }

    async fn readers(&self) -> Option<Observed<Readers>> {
        None
    }

    async fn publish(&self, message: &Message) -> Result<(), CallError> {
        self.published.borrow_mut().push(message.clone());
        Ok(())
    }

    /// Does nothing: there is nothing to restart in a file. The plan tells of it.
    async fn restart(
        &self,
        _scheduler: &Scheduler,
        _remediation: &Remediation,
    ) -> Result<Option<String>, CallError> {
        Ok(None)
    }

    /// Does nothing: a look at files keeps no watch that a switch could wait for.
    async fn ping(&self, _endpoint: &Endpoint) -> Result<(), CallError> {
        Ok(())
    }
}

/// The 99th percentile of the events' way to the log service.
fn lag(events: &[LogEvent]) -> Option<SignedDuration> {
    let mut lags: Vec<SignedDuration> = (events.iter())
        .filter_map(|event| Some(event.ingested?.duration_since(event.at)))
        .collect();
    let rank = (lags.len() * 99).div_ceil(100).checked_sub(1)?;
    let (_, lag, _) = lags.select_nth_unstable(rank);
    Some(*lag)
}

#[cfg(test)]
mod tests;
