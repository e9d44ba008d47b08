//! A small stage for the pure decision: lines, ECS facts and a clock that the test sets.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::config::{Config, Scheduler};
use scheduler_watchdog::decide::decide;
use scheduler_watchdog::health::Health;
use scheduler_watchdog::judge;
use scheduler_watchdog::line::{JobEvent, Kind, Line, Pulse};
use scheduler_watchdog::plan::{Notification, Plan, Verdict};
use scheduler_watchdog::snapshot::{
    CallError, Container, Deployment, Fleet, LogWindow, Observed, Obstacle, Probe, ServiceFacts,
    Snapshot, Task,
};
use scheduler_watchdog::state::State;

/// The task that runs when a test begins, and its stream.
pub const TASK: &str = "0a1b2c3d";
/// Another one beside it, where a test has two.
pub const SECOND_TASK: &str = "9f8e7d6c";
pub const DEPLOYMENT: &str = "ecs-svc/1111111111111111111";

/// One scheduler with everything that a decision is made from.
pub struct Stage {
    pub scheduler: Scheduler,
    pub state: State,
    pub now: Timestamp,
    pub lines: Vec<Line>,
    pub log_error: Option<CallError>,
    pub truncated: bool,
    pub probe: Option<Timestamp>,
    pub service: Observed<ServiceFacts>,
    pub health: Option<Observed<Health>>,
    pub fleet: Fleet,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}

pub fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

pub fn stream(task: &str) -> String {
    format!("app/app/{task}")
}

/// Half an hour of heartbeats, then silence; the last pass before it was good.
pub fn falls_silent(more: &str) -> Stage {
    let mut stage = Stage::new(more);
    stage.beats(TASK, 30);
    stage.other_lines();
    for plan in stage.passes(6) {
        assert_eq!(plan.verdict, Verdict::Healthy, "{plan}");
    }
    stage
}

/// Two replicas, the second of which falls silent after half an hour; the last pass before it was
/// good.
pub fn replica_falls_silent(more: &str) -> Stage {
    let mut stage = Stage::new(more);
    stage.other_lines();
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
    stage.beats(TASK, 240);
    stage.beats(SECOND_TASK, 30);
    for plan in stage.passes(6) {
        assert_eq!(plan.verdict, Verdict::Healthy, "{plan}");
    }
    stage
}

/// What people are told in these passes.
pub fn told(plans: &[Plan]) -> Vec<&Notification> {
    plans.iter().flat_map(|plan| &plan.notifications).collect()
}

impl Stage {
    /// A scheduler in ECS that may be restarted; midnight, one task, one old deployment. `more`
    /// is added to its configuration.
    pub fn new(more: &str) -> Self {
        let config = format!(
            r#"
            [[scheduler]]
            name = "myteacher-production"
            log_groups = ["/ecs/myteacher-production"]
            stale_after = "5m"
            [scheduler.ecs]
            cluster = "myteacher-production-cluster"
            service = "myteacher-production-app-service"
            container = "app"
            [scheduler.remediation]
            action = "force-new-deployment"
            replica_action = "stop-task"
            {more}
            "#
        );
        Self::of(&config)
    }

    /// A scheduler as it is configured; midnight, one task, one old deployment.
    pub fn of(config: &str) -> Self {
        let config = Config::parse(config, "test").unwrap();
        let now = at("2025-12-02T00:00:00Z");
        Self {
            scheduler: config.schedulers[0].clone(),
            state: State::default(),
            now,
            lines: Vec::new(),
            log_error: None,
            truncated: false,
            probe: None,
            service: Observed::Known(facts(&[TASK], now - SignedDuration::from_hours(48))),
            health: None,
            fleet: Fleet {
                watched: 1,
                firing: 0,
            },
        }
    }

    /// Changes what ECS says.
    pub fn ecs(&mut self, change: impl FnOnce(&mut ServiceFacts)) {
        match &mut self.service {
            Observed::Known(facts) => change(facts),
            Observed::Unknown(_) => panic!("ECS is not known here"),
        }
    }

    /// Heartbeats every minute in `[from, from + n minutes)`, counted from the present.
    pub fn beats(&mut self, task: &str, n: i64) {
        for minute in 0..n {
            self.push(task, minutes(minute), Kind::Heartbeat(Pulse::Idle), "idle");
        }
    }

    /// Other lines prove that the logs live, now and in the passes to come.
    pub fn other_lines(&mut self) {
        self.probe = Some(Timestamp::MAX);
    }

    /// An error that ends a run.
    pub fn abort(&mut self, after: SignedDuration, text: &str) {
        let kind = Kind::Error {
            aborts: true,
            context: None,
            trace: Vec::new(),
        };
        self.push(TASK, after, kind, text);
    }

    /// An error of the application.
    pub fn error(&mut self, after: SignedDuration, text: &str) {
        let kind = Kind::Error {
            aborts: false,
            context: None,
            trace: Vec::new(),
        };
        self.push(TASK, after, kind, text);
    }

    /// A foreground job's line, printed when it ended.
    pub fn job_ended(&mut self, name: &str, after: SignedDuration, took: SignedDuration) {
        let event = JobEvent::Ended { took: Some(took) };
        let kind = Kind::Job {
            name: name.to_owned(),
            event,
            background: false,
        };
        self.push(TASK, after, kind, name);
    }

    pub fn push(&mut self, task: &str, after: SignedDuration, kind: Kind, text: &str) {
        let stream: Arc<str> = stream(task).into();
        self.lines
            .push(Line::new(self.now + after, stream, kind, text));
    }

    /// Moves the clock.
    pub fn wait(&mut self, n: i64) -> &mut Self {
        self.now += minutes(n);
        self
    }

    /// One pass: looks at what is there by now, decides, and remembers; between two passes the
    /// state is a document.
    pub fn pass(&mut self) -> Plan {
        let (plan, state) = self.decide();
        self.state = State::from_json(&state.to_json()).unwrap();
        plan
    }

    /// One pass whose plan does not matter.
    pub fn look(&mut self) {
        let _ = self.pass();
    }

    /// Waits five minutes and passes, `n` times; the plans.
    pub fn passes(&mut self, n: usize) -> Vec<Plan> {
        (0..n).map(|_| self.wait(5).pass()).collect()
    }

    /// Decides without remembering.
    pub fn decide(&self) -> (Plan, State) {
        decide(&self.scheduler, &self.snapshot(), &self.state, self.now)
    }

    pub fn snapshot(&self) -> Snapshot {
        let from = (self.state.unread_from()).unwrap_or(self.now - minutes(30));
        let log = match &self.log_error {
            Some(error) => Observed::Unknown(error.clone()),
            None => Observed::Known(LogWindow {
                from,
                until: self.now,
                lines: (self.lines.iter())
                    .filter(|line| line.at >= from && line.at <= self.now)
                    .cloned()
                    .collect(),
                truncated: self.truncated,
                scanned_bytes: None,
                lag: None,
            }),
        };
        // As in a pass: the rest is asked for only on suspicion.
        let mut seen = self.state.clone();
        if let Observed::Known(window) = &log {
            scheduler_watchdog::history::fold(&mut seen, &self.scheduler, window, self.now);
        }
        let wanted = judge::wanted(&self.scheduler, &log, &seen, self.now);
        let newest = self.probe.map(|at| (stream(TASK), at.min(self.now)));
        Snapshot {
            log,
            probe: wanted.probe.then(|| {
                Observed::Known(Probe {
                    newest: newest.into_iter().collect(),
                })
            }),
            service: wanted.service.then(|| self.service.clone()),
            health: self.health.clone().filter(|_| wanted.health),
            fleet: self.fleet,
        }
    }
}

pub fn unknown(kind: Obstacle) -> CallError {
    CallError::new(kind, "as the test wants it")
}

/// A steady service with one completed deployment that runs these tasks.
pub fn facts(tasks: &[&str], since: Timestamp) -> ServiceFacts {
    ServiceFacts {
        status: "ACTIVE".to_owned(),
        controller: "ECS".to_owned(),
        desired: u32::try_from(tasks.len()).unwrap(),
        deployments: vec![deployment(DEPLOYMENT, "COMPLETED", since)],
        tasks: tasks.iter().map(|id| task(id, DEPLOYMENT, since)).collect(),
        ..ServiceFacts::default()
    }
}

pub fn deployment(id: &str, rollout: &str, created_at: Timestamp) -> Deployment {
    Deployment {
        id: id.to_owned(),
        status: "PRIMARY".to_owned(),
        rollout: rollout.to_owned(),
        created_at,
        failed_tasks: 0,
    }
}

pub fn task(id: &str, deployment: &str, since: Timestamp) -> Task {
    Task {
        id: id.to_owned(),
        started_by: deployment.to_owned(),
        last_status: "RUNNING".to_owned(),
        started_at: Some(since),
        stopped_at: None,
        stop_code: String::new(),
        stopped_reason: String::new(),
        health: "HEALTHY".to_owned(),
        containers: vec![Container {
            name: "app".to_owned(),
            image: "registry.example/app@sha256:0123".to_owned(),
            exit_code: None,
            reason: String::new(),
        }],
    }
}
