//! What really happens at one scheduler: its service, tasks, loops and jobs, minute by minute,
//! and what they print. The watchdog sees of it only what the world shows.

mod tasks;

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::health::Health;
use scheduler_watchdog::line::{JobEvent, Kind, Line, LogEvent, Pulse};
use scheduler_watchdog::snapshot::{Container, Deployment, ServiceFacts, Task as TaskFacts};

use crate::scenario::{Dice, Event, Scenario, Setup, What};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Lines older than this are of no use to any pass.
const KEPT: SignedDuration = SignedDuration::from_hours(27);

/// Heartbeats that are remembered: more than all replicas print in a minute.
const MOST_BEATS: usize = 64;

/// How long a line is on its way to the log service, at most, when nothing delays it.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(5);

/// How long ECS tells of a stopped task.
const STOPPED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The default of `startup_grace`.
const STARTUP_GRACE: SignedDuration = SignedDuration::from_mins(3);

/// A deployment in progress for longer than this excuses nothing.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// A line that was printed, on its way to the log service.
#[derive(Clone, Debug)]
pub struct Printed {
    pub at: Timestamp,
    /// When it can be found by a query.
    pub seen: Timestamp,
    pub stream: Arc<str>,
    pub said: Said,
}

/// What a line says.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    Idle,
    Job {
        name: &'static str,
        event: RunEvent,
        took: SignedDuration,
        background: bool,
    },
    Abort,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEvent {
    Started,
    Ended,
    Failed,
    Skipped,
}

impl Said {
    pub fn is_heartbeat(self) -> bool {
        matches!(self, Self::Idle | Self::Job { .. })
    }
}

const ABORT: &str = "Connection refused [tcp://redis:6379]";
const ERROR: &str = "The payment provider does not answer";

impl Printed {
    /// What the line reader makes of it.
    pub fn line(&self) -> Line {
        let (kind, text) = match self.said {
            Said::Idle => (Kind::Heartbeat(Pulse::Idle), "idle"),
            Said::Abort => (
                Kind::Error {
                    aborts: true,
                    context: Some("AbstractConnection.php".to_owned()),
                    trace: Vec::new(),
                },
                ABORT,
            ),
            Said::Error => (
                Kind::Error {
                    aborts: false,
                    context: None,
                    trace: Vec::new(),
                },
                ERROR,
            ),
            Said::Job {
                name,
                event,
                took,
                background,
            } => {
                let took = Some(took);
                let event = match event {
                    RunEvent::Started => JobEvent::Started,
                    RunEvent::Ended => JobEvent::Ended { took },
                    RunEvent::Failed => JobEvent::Failed {
                        took,
                        exit_code: None,
                    },
                    RunEvent::Skipped => JobEvent::Skipped,
                };
                let kind = Kind::Job {
                    name: name.to_owned(),
                    event,
                    background,
                };
                (kind, name)
            }
        };
        Line::new(self.at, self.stream.clone(), kind, text)
    }

    /// What the log service holds: Laravel's words.
    pub fn event(&self, zone: &TimeZone) -> LogEvent {
        let stamp = |at: Timestamp| {
            zone.to_datetime(at)
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        };
        let message = match self.said {
            Said::Idle => "   INFO  No scheduled commands are ready to run.  ".to_owned(),
            Said::Abort => format!(
                "\nIn AbstractConnection.php line 144:\n{:77}\n  {ABORT:<75}\n{:77}\n",
                "", ""
            ),
            Said::Error => format!(
                "[{}] production.ERROR: {ERROR} <!channel> \u{1b}[2J\u{202e}\u{7} {{\"at\":1}}",
                stamp(self.at)
            ),
            Said::Job {
                name,
                event,
                took,
                background,
            } => {
                let millis = took.as_millis();
                let mode = if background { " in background" } else { "" };
                match event {
                    RunEvent::Started => format!(
                        "[{}] Running scheduled command: '/usr/local/bin/php' 'artisan' {name} > \
                         '/dev/null' 2>&1{}",
                        self.at.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
                        if background { " &" } else { "" },
                    ),
                    RunEvent::Ended | RunEvent::Failed => {
                        let end = if event == RunEvent::Ended {
                            "DONE"
                        } else {
                            "FAIL"
                        };
                        format!(
                            "  {} Running ['artisan' {name}]{mode} ......... {millis}ms {end}",
                            stamp(self.at - took)
                        )
                    }
                    RunEvent::Skipped => format!(
                        "   INFO  Skipping ['artisan' {name}] because the command already ran on \
                         another server.  "
                    ),
                }
            }
        };
        LogEvent {
            at: self.at,
            ingested: Some(self.seen),
            stream: self.stream.clone(),
            id: Some(format!("{}/{message}", self.at.as_millisecond())),
            message,
        }
    }
}

/// One task.
#[derive(Debug)]
pub struct Task {
    pub id: String,
    stream: Arc<str>,
    /// The deployment's id, the schedule, or the token of a run by hand.
    started_by: String,
    pub started_at: Timestamp,
    stopped_at: Option<Timestamp>,
    /// How its process ends, once that is known.
    exit: Option<i32>,
    reason: &'static str,
    next_turn: Timestamp,
    /// The loop is dead; the container lives on.
    pub dead: bool,
    /// A run that never ends.
    pub hung: bool,
    /// The newest run that the loop waited for.
    wait: Option<Wait>,
    /// The newest heartbeats, the older first; the newest can lie in the minute that has just
    /// begun.
    beats: [Option<Timestamp>; 2],
    /// Printed at a time to come.
    pending: VecDeque<Printed>,
}

impl Task {
    fn runs(&self, now: Timestamp) -> bool {
        self.started_at <= now && self.stopped_at.is_none_or(|at| at > now)
    }

    fn is_gone(&self) -> bool {
        self.stopped_at.is_some()
    }

    /// Its process began: the image was there.
    fn has_process(&self) -> bool {
        self.stopped_at != Some(self.started_at)
    }

    /// Ends what it does; nothing that it would have printed later is printed.
    fn silence(&mut self, at: Timestamp, dues: &mut [Vec<Due>], ended: &mut [u32]) {
        if let Some(wait) = self.wait.as_mut().filter(|wait| wait.until > at) {
            ended[wait.job] -= 1;
            wait.until = at;
        }
        for due in dues.iter_mut().filter_map(|dues| dues.last_mut()) {
            let its = self.pending.iter().any(|line| Some(line.at) == due.line_at);
            if its && due.line_at > Some(at) {
                due.line_at = None;
            }
        }
        self.pending.retain(|line| line.at <= at);
    }
}

/// A run of more than a minute that a loop waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub job: usize,
    pub since: Timestamp,
    until: Timestamp,
}

/// A time at which a job was due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub at: Timestamp,
    /// When the line of its run was printed.
    pub line_at: Option<Timestamp>,
    pub failed: bool,
}

/// One scheduler.
pub struct Site {
    pub setup: Setup,
    events: Vec<Event>,
    dice: Dice,
    zone: TimeZone,
    /// The next minute to come.
    minute: Timestamp,
    pub desired: u32,
    deployments: Vec<Deployment>,
    pub tasks: Vec<Task>,
    stuck: Option<String>,
    count: u64,
    printed: VecDeque<Printed>,
    lost: u64,
    /// The newest heartbeats that were printed and that the log service was sent, some of them
    /// in the minute that has just begun. A run by hand is no sign of life of its schedule.
    beats: VecDeque<Timestamp>,
    /// The newest turns of a loop that did not abort, some of them in the minute that has just
    /// begun.
    turns: VecDeque<Timestamp>,
    /// For each job, the due times so far.
    pub dues: Vec<Vec<Due>>,
    /// For each job, the due minute that a replica took.
    taken: Vec<Option<Timestamp>>,
    /// For each job, runs in the foreground that ended.
    pub ended: Vec<u32>,
    /// The newest minute in which the service was meant to run no task.
    pub off_at: Option<Timestamp>,
    /// Errors printed, newest last.
    pub errors: VecDeque<Timestamp>,
}

impl Site {
    pub fn new(scenario: &Scenario, index: usize) -> Self {
        let setup = scenario.sites[index].clone();
        // It ran for two days before the watchdog came.
        let born = scenario.begin - SignedDuration::from_hours(48);
        let jobs = setup.jobs.len();
        let mut site = Self {
            zone: setup.zone(),
            events: (scenario.events.iter())
                .filter(|event| event.concerns(index))
                .cloned()
                .collect(),
            dice: scenario.dice().about(index as u64 + 1),
            minute: scenario.begin - SignedDuration::from_hours(2),
            desired: setup.replicas as u32,
            deployments: Vec::new(),
            tasks: Vec::new(),
            stuck: None,
            count: 0,
            printed: VecDeque::new(),
            lost: 0,
            beats: VecDeque::new(),
            turns: VecDeque::new(),
            dues: vec![Vec::new(); jobs],
            taken: vec![None; jobs],
            ended: vec![0; jobs],
            off_at: None,
            errors: VecDeque::new(),
            setup,
        };
        if site.setup.task_every.is_some() {
            return site;
        }
        site.deploy(born);
        for _ in 0..site.setup.replicas {
            site.start_task(born);
        }
        for task in &mut site.tasks {
            task.next_turn = site.minute;
        }
        site.deployments[0].rollout = "COMPLETED".to_owned();
        site
    }

    /// Lets time pass up to `now`; what happens within a minute has happened when it begins.
    pub fn advance(&mut self, now: Timestamp) {
        while self.minute <= now {
            let minute = self.minute;
            self.happenings(minute);
            match self.setup.task_every {
                Some(every) => self.keep_schedule(minute, every),
                None => self.keep_running(minute),
            }
            self.expect(minute);
            for index in 0..self.tasks.len() {
                match self.setup.task_every {
                    Some(_) => self.run_once(index, minute),
                    None => self.turns(index, minute),
                }
            }
            self.flush(minute + MINUTE);
            self.minute = minute + MINUTE;
        }
    }

    fn is_on(&self, at: Timestamp, what: impl Fn(What) -> bool) -> bool {
        (self.events.iter()).any(|event| event.is_on(at) && what(event.what))
    }

    fn dead_on_arrival(&self, at: Timestamp) -> bool {
        self.is_on(at, |what| what == What::LoopDies { stubborn: true })
    }

    /// What begins and ends in a minute.
    fn happenings(&mut self, minute: Timestamp) {
        let within = |at: Timestamp| minute <= at && at < minute + MINUTE;
        let news: Vec<Event> = (self.events.iter())
            .filter(|event| within(event.from) || within(event.until))
            .cloned()
            .collect();
        for event in &news {
            if within(event.from) {
                self.begins(event);
            }
            if within(event.until) {
                self.ends(event);
            }
        }
        self.desired = if self.is_on(minute, |what| what == What::ScaledToZero) {
            0
        } else {
            self.setup.replicas as u32
        };
        if self.desired == 0 {
            self.off_at = Some(minute);
        }
    }

    fn begins(&mut self, event: &Event) {
        let at = event.from;
        match event.what {
            What::LoopDies { .. } => {
                for task in &mut self.tasks {
                    task.dead = true;
                    task.silence(at, &mut self.dues, &mut self.ended);
                }
            }
            What::ReplicaDies => {
                let alive = |task: &&mut Task| task.runs(at) && !task.dead && !task.hung;
                if let Some(task) = self.tasks.iter_mut().find(alive) {
                    task.dead = true;
                    task.silence(at, &mut self.dues, &mut self.ended);
                }
            }
            What::Down => self.stop_all(at, "Essential container in task exited"),
            What::Deployment => drop(self.deploy(at)),
            What::StuckDeployment => self.stuck = Some(self.deploy(at)),
            _ => {}
        }
    }

    fn ends(&mut self, event: &Event) {
        let at = event.until;
        let broken = (self.tasks.iter()).any(|task| !task.is_gone() && (task.dead || task.hung));
        match event.what {
            What::JobHangs(_) | What::TasksMute { .. } if self.setup.task_every.is_some() => {
                self.stop_hung(at);
            }
            What::LoopDies { .. } | What::JobHangs(_) if broken => drop(self.deploy(at)),
            What::StuckDeployment => drop(self.deploy(at)),
            What::ReplicaDies => {
                let dead = (self.tasks.iter()).position(|task| !task.is_gone() && task.dead);
                if let Some(index) = dead {
                    self.stop(index, at, "Task stopped by a person");
                }
            }
            _ => {}
        }
    }

    /// Asks for a new deployment.
    pub fn deploy(&mut self, at: Timestamp) -> String {
        self.count += 1;
        let id = format!("ecs-svc/{:019}", self.count);
        for deployment in &mut self.deployments {
            deployment.status = "ACTIVE".to_owned();
        }
        self.deployments.insert(
            0,
            Deployment {
                id: id.clone(),
                status: "PRIMARY".to_owned(),
                rollout: "IN_PROGRESS".to_owned(),
                created_at: at,
                failed_tasks: 0,
            },
        );
        id
    }

    /// Stops one task, as the watchdog may.
    pub fn stop_task(&mut self, id: &str, at: Timestamp) {
        let found = (self.tasks.iter()).position(|task| task.id == id && !task.is_gone());
        if let Some(index) = found {
            self.stop(index, at, "Task stopped by the watchdog");
        }
    }

    fn stop(&mut self, index: usize, at: Timestamp, reason: &'static str) {
        let task = &mut self.tasks[index];
        if task.is_gone() {
            return;
        }
        task.silence(at, &mut self.dues, &mut self.ended);
        task.stopped_at = Some(at);
        task.reason = reason;
        let stream = task.stream.clone();
        self.printed
            .retain(|line| line.at <= at || line.stream != stream);
    }

    fn stop_all(&mut self, at: Timestamp, reason: &'static str) {
        for index in 0..self.tasks.len() {
            self.stop(index, at, reason);
        }
    }

    fn start_task(&mut self, at: Timestamp) {
        self.count += 1;
        let dice = self.dice.about(self.count);
        let id = format!(
            "{:032x}",
            u128::from(dice.below(0, u64::MAX)) << 64 | u128::from(self.count)
        );
        let asked_at = at.max(self.deployments[0].created_at);
        let started_at = asked_at + SignedDuration::from_secs(20 + dice.below(1, 40) as i64);
        let boot = SignedDuration::from_secs(5 + dice.below(2, 35) as i64);
        self.tasks.push(Task {
            stream: format!("app/app/{id}").into(),
            id,
            started_by: self.deployments[0].id.clone(),
            started_at,
            stopped_at: None,
            exit: Some(1),
            reason: "",
            next_turn: started_at + boot,
            dead: self.dead_on_arrival(started_at),
            hung: false,
            wait: None,
            beats: [None; 2],
            pending: VecDeque::new(),
        });
    }

    /// What ECS does in a minute: starts what is missing, and brings deployments to their end.
    fn keep_running(&mut self, minute: Timestamp) {
        self.tasks.retain(|task| {
            task.stopped_at
                .is_none_or(|at| minute.duration_since(at) < STOPPED_FOR)
        });
        if self.desired == 0 {
            self.stop_all(minute, "Scaling activity initiated by deployment");
        }
        let primary = self.deployments[0].id.clone();
        let down = self.is_on(minute, |what| what == What::Down);
        let stuck = self.stuck.as_ref() == Some(&primary);
        let own = |task: &&Task| !task.is_gone() && task.started_by == primary;
        let mut have = self.tasks.iter().filter(own).count();
        if stuck || down {
            self.deployments[0].failed_tasks += 1;
        } else {
            while have < self.desired as usize {
                self.start_task(minute);
                have += 1;
            }
        }
        if self.deployments[0].rollout == "COMPLETED" {
            return;
        }
        let steady =
            |task: &&Task| own(task) && minute.duration_since(task.started_at).as_secs() > 30;
        let ready = self.tasks.iter().filter(steady).count() >= self.desired as usize;
        let others: Vec<usize> = (self.tasks.iter().enumerate())
            .filter(|(_, task)| !task.is_gone() && task.started_by != primary)
            .map(|(index, _)| index)
            .collect();
        if ready && !stuck && others.is_empty() {
            self.deployments.truncate(1);
            self.deployments[0].rollout = "COMPLETED".to_owned();
        } else if ready && !stuck {
            for index in others {
                self.stop(index, minute, "Scaling activity initiated by deployment");
            }
        }
    }

    /// Notes which jobs are due in a minute.
    fn expect(&mut self, minute: Timestamp) {
        if self.setup.jobs.is_empty() {
            return;
        }
        let wall = self.zone.to_datetime(minute);
        for (job, dues) in self.setup.jobs.iter().zip(&mut self.dues) {
            if job.when.matches(wall) {
                dues.push(Due {
                    at: minute,
                    line_at: None,
                    failed: false,
                });
            }
        }
    }

    /// The turns of one task's loop that begin in a minute.
    fn turns(&mut self, index: usize, minute: Timestamp) {
        loop {
            let task = &self.tasks[index];
            let at = task.next_turn;
            if at >= minute + MINUTE
                || task.dead
                || task.hung
                || task.stopped_at.is_some_and(|s| s <= at)
            {
                return;
            }
            let end = self.turn(index, at);
            let dice = self.dice.about(index as u64);
            let question = at.as_second() as u64;
            self.tasks[index].next_turn = if self.setup.drifts {
                end + MINUTE + SignedDuration::from_millis(dice.below(question, 500) as i64)
            } else {
                let offset = 1 + dice.below(7, 20) as i64;
                floor(end) + MINUTE + SignedDuration::from_secs(offset)
            };
        }
    }

    /// One turn of a loop: what is due, one after the other. Returns its end.
    fn turn(&mut self, index: usize, at: Timestamp) -> Timestamp {
        let mut cursor = at + SignedDuration::from_millis(300);
        if self.is_on(at, |what| what == What::Failing) {
            self.print(index, cursor, Said::Abort);
            return cursor;
        }
        self.turns.push_back(at);
        if self.turns.len() > MOST_BEATS {
            self.turns.pop_front();
        }
        let minute = floor(at);
        let wall = self.zone.to_datetime(minute);
        let mut worked = false;
        for job in 0..self.setup.jobs.len() {
            let setup = self.setup.jobs[job].clone();
            let stuck = || {
                self.is_on(at, |what| what == What::JobStuck(job))
                    || self.is_on(at, |what| what == What::JobHangs(job)) && self.is_locked()
            };
            if !setup.when.matches(wall) || stuck() {
                continue;
            }
            worked = true;
            let say = |event, took| Said::Job {
                name: setup.name,
                event,
                took,
                background: setup.background,
            };
            let twice = self.is_on(at, |what| what == What::Twice);
            if self.taken[job] == Some(minute) && !twice {
                self.print(index, cursor, say(RunEvent::Skipped, SignedDuration::ZERO));
                continue;
            }
            self.taken[job] = Some(minute);
            if self.is_on(at, |what| what == What::JobHangs(job)) {
                if !self.setup.at_end {
                    self.print(index, cursor, say(RunEvent::Started, SignedDuration::ZERO));
                }
                self.tasks[index].hung = true;
                return cursor;
            }
            let jitter = self.dice.below(cursor.as_second() as u64, 200) as i64;
            let took = SignedDuration::from_millis(setup.took * (900 + jitter));
            let waits = if setup.background {
                SignedDuration::from_millis(40)
            } else {
                took
            };
            let failed = self.is_on(at, |what| what == What::JobFails(job));
            let began = cursor;
            cursor += waits;
            let line_at = if self.setup.at_end {
                let event = if failed {
                    RunEvent::Failed
                } else {
                    RunEvent::Ended
                };
                self.print(index, cursor, say(event, waits));
                cursor
            } else {
                self.print(index, began, say(RunEvent::Started, SignedDuration::ZERO));
                began
            };
            if let Some(due) =
                (self.dues[job].iter_mut().rev().take(3)).find(|due| due.at == minute)
            {
                (due.line_at, due.failed) = (Some(line_at), failed);
            }
            if waits > MINUTE && self.setup.task_every.is_none() {
                self.tasks[index].wait = Some(Wait {
                    job,
                    since: began,
                    until: cursor,
                });
                self.ended[job] += 1;
            }
        }
        if !worked && self.setup.idle_lines {
            self.print(index, cursor, Said::Idle);
        }
        if self.is_on(at, |what| what == What::Errors) {
            for n in 0..2 + self.dice.below(at.as_second() as u64, 3) {
                let at = cursor + SignedDuration::from_secs(1 + 6 * n as i64);
                self.print(index, at, Said::Error);
            }
        }
        cursor
    }

    fn print(&mut self, index: usize, at: Timestamp, said: Said) {
        let task = &mut self.tasks[index];
        let line = Printed {
            at,
            seen: at,
            stream: task.stream.clone(),
            said,
        };
        let place = task.pending.partition_point(|other| other.at <= at);
        task.pending.insert(place, line);
    }

    /// Sends off what was printed before `until`.
    fn flush(&mut self, until: Timestamp) {
        let mut printed = Vec::new();
        for index in 0..self.tasks.len() {
            while let Some(mut line) = {
                let pending = &mut self.tasks[index].pending;
                (pending.front().is_some_and(|line| line.at < until))
                    .then(|| pending.pop_front())
                    .flatten()
            } {
                if self.is_on(line.at, |what| what == What::LogsDie) {
                    continue;
                }
                if line.said.is_heartbeat() {
                    let beats = &mut self.tasks[index].beats;
                    // Those of one turn are one.
                    if beats[1].is_none_or(|last| line.at.duration_since(last) > ON_ITS_WAY) {
                        beats[0] = beats[1];
                    }
                    beats[1] = Some(line.at);
                    if self.setup.task_every.is_none() || self.tasks[index].is_of_schedule() {
                        self.beats.push_back(line.at);
                    }
                    if self.beats.len() > MOST_BEATS {
                        self.beats.pop_front();
                    }
                } else if matches!(line.said, Said::Error | Said::Abort) {
                    self.errors.push_back(line.at);
                }
                let question = line.at.as_millisecond() as u64 ^ (index as u64) << 50;
                let mut late = 1000 + self.dice.about(11).below(question, 3000);
                let mut lost = false;
                for event in self.events.iter().filter(|event| event.is_on(line.at)) {
                    match event.what {
                        What::Lag(most) => {
                            late += self.dice.about(12).below(question, most * 1000);
                        }
                        What::Loss(odds) => lost |= self.dice.about(13).per_mille(question, odds),
                        _ => {}
                    }
                }
                line.seen = line.at + SignedDuration::from_millis(late as i64);
                if lost {
                    self.lost += 1;
                } else {
                    printed.push(line);
                }
            }
        }
        printed.sort_by_key(|line| line.at);
        self.printed.extend(printed);
        while self
            .printed
            .front()
            .is_some_and(|line| until.duration_since(line.at) > KEPT)
        {
            self.printed.pop_front();
        }
        while self
            .errors
            .front()
            .is_some_and(|at| until.duration_since(*at) > KEPT)
        {
            self.errors.pop_front();
        }
    }

    /// The lines of a span that can be found at `now`, oldest first.
    pub fn lines(
        &self,
        from: Timestamp,
        until: Timestamp,
        now: Timestamp,
    ) -> impl DoubleEndedIterator<Item = &Printed> {
        let first = self.printed.partition_point(|line| line.at < from);
        let last = self.printed.partition_point(|line| line.at <= until);
        self.printed
            .range(first..last.max(first))
            .filter(move |line| line.seen <= now)
    }

    /// The newest other line of each stream in a span: the application speaks every 15 seconds.
    pub fn other_lines(&self, from: Timestamp, now: Timestamp) -> Vec<(String, Timestamp)> {
        let lag = (self.events.iter())
            .filter(|event| event.is_on(now))
            .map(|event| match event.what {
                What::Lag(most) => most as i64 / 2,
                _ => 0,
            })
            .max();
        let newest = now - SignedDuration::from_secs(4 + lag.unwrap_or(0));
        // Nothing that was written while the logs were dead, or lost every line, ever arrives.
        let dead = (self.events.iter())
            .filter(|event| matches!(event.what, What::LogsDie | What::Loss(1000)))
            .filter(|event| event.is_on(newest))
            .map(|event| event.from)
            .min();
        let newest = dead.unwrap_or(newest);
        (self.tasks.iter())
            .filter(|task| task.started_at <= newest && task.has_process())
            .map(|task| {
                let last = task.stopped_at.map_or(newest, |at| at.min(newest));
                (task.stream.to_string(), last)
            })
            .filter(|(_, last)| *last >= from)
            .collect()
    }

    /// What ECS says.
    pub fn facts(&self, now: Timestamp) -> ServiceFacts {
        let mut tasks: Vec<TaskFacts> = (self.tasks.iter())
            .map(|task| {
                let stopped = task.stopped_at.filter(|at| *at <= now);
                let status = match (stopped, task.started_at <= now) {
                    (Some(_), _) => "STOPPED",
                    (None, true) => "RUNNING",
                    (None, false) => "PENDING",
                };
                TaskFacts {
                    id: task.id.clone(),
                    started_by: task.started_by.clone(),
                    last_status: status.to_owned(),
                    started_at: Some(task.started_at).filter(|at| *at <= now && task.has_process()),
                    stopped_at: stopped,
                    stop_code: String::new(),
                    stopped_reason: stopped.map(|_| task.reason.to_owned()).unwrap_or_default(),
                    health: "HEALTHY".to_owned(),
                    containers: vec![Container {
                        name: "app".to_owned(),
                        image: "registry.example/app@sha256:0123".to_owned(),
                        exit_code: stopped.and(task.exit),
                        reason: String::new(),
                    }],
                }
            })
            .collect();
        let all = tasks.len();
        for is_stopped in [false, true] {
            self.look_at_some(&mut tasks, |task| task.is_stopped() == is_stopped);
        }
        ServiceFacts {
            status: "ACTIVE".to_owned(),
            controller: "ECS".to_owned(),
            desired: self.desired,
            deployments: self.deployments.clone(),
            truncated: tasks.len() < all,
            tasks,
            events: Vec::new(),
        }
    }

    /// Leaves out tasks of a kind that are too many. ECS lists them in no order.
    fn look_at_some(&self, tasks: &mut Vec<TaskFacts>, such: impl Fn(&TaskFacts) -> bool) {
        let many = tasks.iter().filter(|task| such(task)).count();
        if many <= self.setup.most_tasks {
            return;
        }
        let dice = self.dice.about(23);
        let place = |task: &TaskFacts| {
            let question = task.id.bytes().fold(0, |sum: u64, byte| {
                sum.wrapping_mul(31).wrapping_add(byte.into())
            });
            dice.below(question, u64::MAX)
        };
        tasks.sort_by_key(place);
        let mut left = self.setup.most_tasks;
        tasks.retain(|task| {
            let keeps = !such(task) || left > 0;
            left -= usize::from(such(task) && keeps);
            keeps
        });
    }

    /// What the application says of its scheduler, if a task runs that can say anything. Each turn
    /// notes its time where all tasks find it; more than five minutes later that is no health.
    pub fn health(&self, now: Timestamp) -> Option<Health> {
        let last_run = self.turns.iter().copied().filter(|at| *at <= now).max();
        let every = MINUTE * self.setup.task_every.unwrap_or(1) as i32;
        let healthy = last_run.is_some_and(|at| now.duration_since(at) <= MINUTE * 4 + every);
        // Of scheduled tasks the web service tells, which runs all the time.
        (self.has_task(now) || self.setup.task_every.is_some())
            .then_some(Health { healthy, last_run })
    }

    /// The newest heartbeat that has arrived at `now`, if nothing delayed it.
    pub fn last_beat(&self, now: Timestamp) -> Option<Timestamp> {
        let arrived = now - ON_ITS_WAY;
        self.beats.iter().copied().filter(|at| *at <= arrived).max()
    }

    /// Since when no heartbeat was sent that was expected.
    pub fn silent_since(&self, now: Timestamp) -> Option<Timestamp> {
        // Without ECS nobody can tell that it is meant to be silent.
        self.last_beat(now)
            .max(self.off_at.filter(|_| self.setup.ecs))
    }

    /// How long no heartbeat was sent that was expected.
    pub fn silent_for(&self, now: Timestamp) -> SignedDuration {
        (self.silent_since(now)).map_or(SignedDuration::ZERO, |since| now.duration_since(since))
    }

    /// The run that will end, and that a loop that lives waits for.
    pub fn waits_for(&self, now: Timestamp) -> Option<Wait> {
        (self.tasks.iter())
            .filter(|task| !task.dead && !task.hung && task.runs(now))
            .filter_map(|task| task.wait)
            .find(|wait| wait.until > now)
    }

    /// Since when it is silent, or the end of a newer run that a loop waited for; of tasks, when the
    /// first run that could abort was still to come.
    pub fn lived_until(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = (self.tasks.iter())
            .filter_map(|task| task.wait)
            .map(|wait| wait.until);
        let pause = MINUTE * (self.setup.task_every.unwrap_or(1) as i32 - 1);
        (self.silent_since(now))
            .max(ends.filter(|end| *end <= now).max())
            .map(|at| at + pause)
    }

    /// A deployment or a new task excuses a silence.
    pub fn is_excused(&self, now: Timestamp) -> bool {
        if !self.setup.ecs {
            return false;
        }
        if self.setup.task_every.is_some() {
            return self.all_begin(now);
        }
        let newest = &self.deployments[0];
        let deploying = newest.rollout == "IN_PROGRESS"
            && now.duration_since(newest.created_at) < STUCK_AFTER + MINUTE;
        let starting = (self.tasks.iter())
            .any(|task| task.runs(now) && now.duration_since(task.started_at) < STARTUP_GRACE);
        self.desired == 0 || deploying || starting
    }

    /// The oldest deployment in progress.
    pub fn deploying_since(&self) -> Option<Timestamp> {
        let newest = self.deployments.first()?;
        (newest.rollout == "IN_PROGRESS").then_some(newest.created_at)
    }

    /// Whether some task that runs gave no heartbeat for so long.
    pub fn has_silent_task(&self, now: Timestamp, longer: SignedDuration) -> bool {
        (self.tasks.iter()).any(|task| {
            let arrived = |beat: &&Option<Timestamp>| **beat <= Some(now - ON_ITS_WAY);
            let beat = task.beats.iter().filter(arrived).max().copied().flatten();
            let last = beat.unwrap_or(task.started_at).max(task.started_at);
            task.runs(now) && now.duration_since(last) > longer
        })
    }

    /// Some task runs.
    pub fn has_task(&self, now: Timestamp) -> bool {
        self.tasks.iter().any(|task| task.runs(now))
    }
}

pub fn floor(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(60) * 60).unwrap()
}
