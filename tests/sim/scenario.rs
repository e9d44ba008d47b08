//! What a world is, before it runs: who is watched, and everything that will happen. It is made
//! from a seed; every happening can be left out without moving the others.

use std::fmt;

use clap::ValueEnum;
use fastrand::Rng;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::config::Config;
use scheduler_watchdog::snapshot::Obstacle;

/// At the end of every world nothing happens any more for this long: all must be well again.
pub const CALM_END: SignedDuration = SignedDuration::from_hours(12);

/// Answers to questions about details, such as the delay of one line. The same question gets
/// the same answer, whatever else was asked: leaving one happening out moves no other.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Other dice, for another topic.
    pub fn about(self, topic: u64) -> Self {
        Self(Rng::with_seed(self.0 ^ topic.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..))
    }

    /// A number below `n`.
    pub fn below(self, question: u64, n: u64) -> u64 {
        let mut rng = Rng::with_seed(self.0 ^ question.wrapping_mul(0xd1b5_4a32_d192_ed03));
        rng.u64(..n.max(1))
    }

    /// Yes, with so many in a thousand.
    pub fn per_mille(self, question: u64, odds: u64) -> bool {
        odds > 0 && self.below(question, 1000) < odds
    }
}

/// What is watched in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Schedulers that run in a loop.
    Loops,
    /// Schedulers each run of which is a task of its own, started by a schedule; of several, every other
    /// one runs in a loop.
    Tasks,
}

/// What a world is made from, and made from again. Each kind has seeds of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed {
    pub kind: Kind,
    pub number: u64,
}

impl Seed {
    /// The arguments that make its world again.
    pub fn arguments(self) -> String {
        match self.kind {
            Kind::Loops => format!("--seed {}", self.number),
            Kind::Tasks => format!("--kind tasks --seed {}", self.number),
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Loops => write!(f, "{}", self.number),
            Kind::Tasks => write!(f, "{} of tasks", self.number),
        }
    }
}

/// A whole world.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: Seed,
    pub begin: Timestamp,
    pub days: i64,
    /// From one wake-up to the next.
    pub every: SignedDuration,
    /// Lines come as text, through the line reader; else as what it would make of them.
    pub as_text: bool,
    pub sites: Vec<Setup>,
    pub events: Vec<Event>,
}

/// One scheduler that is watched.
#[derive(Clone, Debug)]
pub struct Setup {
    pub name: String,
    /// Minutes from one run to the next, where each is a task of its own; none for a loop.
    pub task_every: Option<i64>,
    pub replicas: usize,
    /// So many tasks that run are looked at, and so many that have stopped.
    pub most_tasks: usize,
    /// `[scheduler.ecs]` is configured.
    pub ecs: bool,
    pub restarts: bool,
    pub stops_tasks: bool,
    /// Minutes; `auto`, if none.
    pub stale_after: Option<i64>,
    pub zone: &'static str,
    /// It prints a line in a minute without work; not so with `--whisper`.
    pub idle_lines: bool,
    /// A job's line comes when it ends (Laravel 9.21 and later), else when it starts.
    pub at_end: bool,
    /// The loop sleeps for a minute after each turn, else until the next minute begins.
    pub drifts: bool,
    /// Every night, messages and restarts are withheld for an hour.
    pub maintenance: bool,
    /// Its application tells when it last ran.
    pub health: bool,
    pub jobs: Vec<JobSetup>,
}

/// A job as the application has it.
#[derive(Clone, Debug)]
pub struct JobSetup {
    pub name: &'static str,
    pub when: When,
    /// How long a run takes, in seconds, give or take a tenth.
    pub took: i64,
    pub background: bool,
    /// Minutes, where it is configured.
    pub max_runtime: Option<i64>,
}

/// When a job is due by the wall clock; told apart from the code under test.
#[derive(Clone, Copy, Debug)]
pub enum When {
    EveryMinutes(i8),
    Hourly(i8),
    Daily(i8, i8),
    Weekdays(i8, i8),
    Monthly(i8, i8),
}

impl When {
    pub fn matches(self, at: DateTime) -> bool {
        let at_time = |hour, minute| at.hour() == hour && at.minute() == minute;
        match self {
            Self::EveryMinutes(n) => at.minute() % n == 0,
            Self::Hourly(minute) => at.minute() == minute,
            Self::Daily(hour, minute) => at_time(hour, minute),
            Self::Weekdays(hour, minute) => {
                let weekend = matches!(at.weekday(), Weekday::Saturday | Weekday::Sunday);
                at_time(hour, minute) && !weekend
            }
            Self::Monthly(day, hour) => at.day() == day && at_time(hour, 0),
        }
    }

    fn cron(self) -> String {
        match self {
            Self::EveryMinutes(n) => format!("*/{n} * * * *"),
            Self::Hourly(minute) => format!("{minute} * * * *"),
            Self::Daily(hour, minute) => format!("{minute} {hour} * * *"),
            Self::Weekdays(hour, minute) => format!("{minute} {hour} * * 1-5"),
            Self::Monthly(day, hour) => format!("0 {hour} {day} * *"),
        }
    }
}

/// Something that happens, once or with some odds, in a span of time.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number, for leaving it out.
    pub number: usize,
    /// The scheduler; what concerns all of them names none.
    pub site: Option<usize>,
    pub from: Timestamp,
    pub until: Timestamp,
    pub what: What,
}

impl Event {
    pub fn is_on(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    pub fn concerns(&self, site: usize) -> bool {
        self.site.is_none_or(|only| only == site)
    }
}

/// What can happen. Odds are per mille, for each call or pass in the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The loop dies in all tasks; at the end a person deploys anew. A stubborn one is dead in
    /// new tasks, too, until then.
    LoopDies { stubborn: bool },
    /// The loop dies in one task of several; at the end a person stops it.
    ReplicaDies,
    /// Every run aborts.
    Failing,
    /// All tasks stop, and none can be started.
    Down,
    /// No line of any kind reaches the log service.
    LogsDie,
    /// A person scales the service to zero, and back.
    ScaledToZero,
    /// A person deploys.
    Deployment,
    /// A person deploys what does not start; at the end what does.
    StuckDeployment,
    /// A job is held back without a word.
    JobStuck(usize),
    /// A job's runs fail.
    JobFails(usize),
    /// A run never ends; at the end a person deploys anew.
    JobHangs(usize),
    /// Replicas run the same jobs.
    Twice,
    /// The application prints errors, many a minute.
    Errors,
    /// Somebody asks to hear nothing.
    Silenced,
    /// Somebody disables the schedule that starts the tasks, and enables it again.
    ScheduleOff,
    /// Tasks fail before the scheduler runs in them: the image cannot be pulled, or the process
    /// ends at once.
    TasksFail { pull: bool },
    /// Tasks run without the scheduler: they end well, or hang until a person stops them.
    TasksMute { hang: bool },

    /// Lines are late by up to so many seconds.
    Lag(u64),
    /// Lines are lost.
    Loss(u64),
    /// The query gives no answer.
    NoLog(Obstacle, u64),
    /// The query's answer is cut to so many lines.
    Cut(usize),
    /// The probe gives no answer.
    NoProbe(u64),
    /// The health endpoint gives no answer.
    NoHealth(u64),
    /// ECS gives no answer.
    NoEcs(Obstacle, u64),
    /// A restart's call fails, before or after it was done.
    NoRestart { done: bool, odds: u64 },
    /// The store cannot be read.
    NoLoad(u64),
    /// A write fails, before or after it was done.
    NoSave { done: bool, odds: u64 },
    /// The topic takes no message, or takes it and does not say so.
    NoTopic { done: bool, odds: u64 },

    /// The watchdog is not woken.
    Asleep(u64),
    /// A pass is killed at some await point.
    Killed(u64),
    /// Two invocations at the same time.
    Concurrent(u64),
    /// It is woken again some seconds later.
    Again(u64),
    /// Passes have little time.
    Hurried(u64),
}

impl What {
    /// Whether lines can be missing or late by it.
    pub fn blurs_the_log(self) -> bool {
        matches!(
            self,
            Self::Lag(_) | Self::Loss(_) | Self::NoLog(..) | Self::Cut(_) | Self::LogsDie
        )
    }

    /// Whether it happens to the scheduler, and not to the watchdog.
    pub fn is_of_the_scheduler(self) -> bool {
        matches!(
            self,
            Self::LoopDies { .. }
                | Self::ReplicaDies
                | Self::Failing
                | Self::Down
                | Self::LogsDie
                | Self::ScaledToZero
                | Self::Deployment
                | Self::StuckDeployment
                | Self::JobStuck(_)
                | Self::JobFails(_)
                | Self::JobHangs(_)
                | Self::Twice
                | Self::Errors
                | Self::ScheduleOff
                | Self::TasksFail { .. }
                | Self::TasksMute { .. }
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = self.until.duration_since(self.from);
        write!(f, "[{}] {:?} for {lasts:#}", self.number, self.what)?;
        match self.site {
            Some(site) => write!(f, " at s{site}"),
            None => Ok(()),
        }
    }
}

/// What the real world looks at.
const MOST_TASKS: usize = 500;

const JOBS: [JobSetup; 8] = [
    job("redis:monitor", When::EveryMinutes(5), 1, false),
    job("queue:prune", When::Hourly(17), 2, false),
    job("report:daily", When::Daily(2, 30), 20, false),
    job("backup:run", When::Daily(4, 10), 1500, false),
    job("payment:clean", When::Monthly(1, 1), 5, false),
    job("auth:check", When::EveryMinutes(10), 1, true),
    job("mail:digest", When::Weekdays(9, 0), 30, true),
    job("stock:sync", When::EveryMinutes(30), 150, false),
];

/// Its tasks overlap many others. Its length must be known: its line comes long after its grace.
const LONG_JOB: JobSetup = JobSetup {
    max_runtime: Some(44),
    ..job("feeds:import", When::EveryMinutes(30), 1300, false)
};

const fn job(name: &'static str, when: When, took: i64, background: bool) -> JobSetup {
    JobSetup {
        name,
        when,
        took,
        background,
        max_runtime: None,
    }
}

impl Scenario {
    /// The world of a seed.
    pub fn new(seed: Seed, days: i64) -> Self {
        let salt = match seed.kind {
            Kind::Loops => 0x5ca1_ab1e,
            Kind::Tasks => 0x0ff1_0ad5,
        };
        let rng = &mut Rng::with_seed(seed.number.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ salt);
        // A year with both of Berlin's clock changes.
        let new_year = Timestamp::constant(1_767_225_600, 0);
        let begin = new_year + SignedDuration::from_hours(24 * rng.i64(0..365));
        let every = match rng.u32(0..100) {
            0..3 => 1,
            3..6 => 15,
            _ => 5,
        };
        let schedulers = match rng.u32(0..100) {
            0..88 => 1,
            88..95 => 2,
            _ => 4,
        };
        let sites: Vec<Setup> = (0..schedulers)
            .map(|index| match seed.kind {
                Kind::Tasks if index % 2 == 0 => task_setup(rng, index),
                _ => setup(rng, index),
            })
            .collect();
        let mut scenario = Self {
            seed,
            begin,
            days,
            every: SignedDuration::from_mins(every),
            as_text: rng.u32(0..25) == 0,
            sites,
            events: Vec::new(),
        };
        // One world in five is at peace.
        if rng.u32(0..5) > 0 {
            scenario.happenings(rng);
        }
        scenario
    }

    pub fn end(&self) -> Timestamp {
        self.begin + SignedDuration::from_hours(24 * self.days)
    }

    pub fn dice(&self) -> Dice {
        Dice::new(self.seed.number)
    }

    fn happenings(&mut self, rng: &mut Rng) {
        for site in 0..self.sites.len() {
            for _ in 0..rng.usize(0..=self.days as usize / 3) {
                let trouble = match self.sites[site].task_every {
                    Some(_) => task_trouble,
                    None => trouble,
                };
                let (what, least, most) = trouble(rng, &self.sites[site]);
                self.happens(rng, Some(site), what, least, most);
            }
        }
        // A clear view in one world of four.
        if rng.u32(0..4) > 0 {
            for _ in 0..rng.usize(0..=self.days as usize / 3) {
                let (what, least, most) = fault(rng);
                self.happens(rng, None, what, least, most);
            }
        }
        // A little of everything, all the time, in one world of four.
        if rng.u32(0..4) == 0 {
            for what in [
                What::Killed(5),
                What::Concurrent(5),
                What::Again(5),
                What::Asleep(10),
                What::Loss(1),
                What::NoLog(Obstacle::Throttled, 5),
                What::NoEcs(Obstacle::Throttled, 5),
                What::NoSave {
                    done: true,
                    odds: 3,
                },
                What::NoSave {
                    done: false,
                    odds: 3,
                },
                What::NoTopic {
                    done: true,
                    odds: 20,
                },
                What::NoTopic {
                    done: false,
                    odds: 20,
                },
                What::NoRestart {
                    done: true,
                    odds: 50,
                },
            ] {
                let until = self.end() - CALM_END;
                self.add(None, what, self.begin, until);
            }
        }
    }

    /// At a time of its own, for a time between `least` and `most` minutes, mostly short.
    fn happens(&mut self, rng: &mut Rng, site: Option<usize>, what: What, least: i64, most: i64) {
        let room = (self.end() - CALM_END).duration_since(self.begin).as_secs();
        let from = self.begin + SignedDuration::from_secs(rng.i64(0..room));
        let (least, most) = (least as f64 * 60.0, most as f64 * 60.0);
        let lasts = least * (most / least).powf(rng.f64());
        let until = from + SignedDuration::from_secs(lasts as i64);
        self.add(site, what, from, until.min(self.end() - CALM_END));
    }

    fn add(&mut self, site: Option<usize>, what: What, from: Timestamp, until: Timestamp) {
        self.events.push(Event {
            number: self.events.len(),
            site,
            from,
            until,
            what,
        });
    }

    /// The watchdog's configuration for this world.
    pub fn config(&self) -> Config {
        let text: String = self.sites.iter().map(Setup::toml).collect();
        Config::parse(&text, "simulation").unwrap()
    }
}

fn setup(rng: &mut Rng, index: usize) -> Setup {
    let ecs = rng.u32(0..10) < 8;
    // Laravel can leave out the idle line (`--whisper`) only where lines come at the end.
    let at_end = rng.u32(0..4) > 0;
    let idle_lines = rng.u32(0..8) > 0 || !at_end;
    let mut jobs: Vec<JobSetup> = (JOBS.iter())
        .filter(|_| rng.u32(0..10) < 4)
        .cloned()
        .collect();
    if !idle_lines && !jobs.iter().any(|job| job.name == JOBS[0].name) {
        jobs.insert(0, JOBS[0].clone());
    }
    for job in &mut jobs {
        if job.took > 60 {
            job.max_runtime = rng.bool().then_some(job.took / 60 * 2);
        }
    }
    Setup {
        name: format!("s{index}"),
        task_every: None,
        replicas: [1, 1, 1, 1, 1, 1, 2, 3][rng.usize(0..8)],
        most_tasks: MOST_TASKS,
        ecs,
        restarts: ecs && rng.u32(0..10) < 6,
        stops_tasks: ecs && rng.bool(),
        stale_after: [None, None, None, Some(5), Some(10), Some(25)][rng.usize(0..6)]
            .filter(|_| idle_lines),
        zone: ["UTC", "Europe/Berlin", "Asia/Tokyo"][rng.usize(0..3)],
        idle_lines,
        at_end,
        drifts: rng.u32(0..4) == 0,
        maintenance: rng.u32(0..8) == 0,
        health: rng.u32(0..4) == 0,
        jobs,
    }
}

/// What happens to a scheduler, and for how many minutes.
fn trouble(rng: &mut Rng, setup: &Setup) -> (What, i64, i64) {
    let job = rng.usize(0..setup.jobs.len().max(1));
    let has_jobs = !setup.jobs.is_empty();
    match rng.u32(0..28) {
        0..6 => (
            What::LoopDies {
                stubborn: rng.u32(0..3) == 0,
            },
            2,
            900,
        ),
        6..8 if setup.replicas > 1 => (What::ReplicaDies, 2, 900),
        8..11 => (What::Failing, 2, 300),
        11..13 => (What::Down, 2, 120),
        13..15 => (What::LogsDie, 2, 120),
        15 => (What::ScaledToZero, 10, 900),
        16..19 => (What::Deployment, 1, 2),
        19 => (What::StuckDeployment, 10, 240),
        20..22 if has_jobs => (What::JobStuck(job), 5, 3000),
        22..24 if has_jobs && setup.at_end => (What::JobFails(job), 5, 3000),
        24 if has_jobs => (What::JobHangs(job), 5, 900),
        25 if setup.replicas > 1 => (What::Twice, 10, 600),
        26 => (What::Silenced, 30, 1200),
        _ => (What::Errors, 2, 60),
    }
}

/// A scheduler whose every run is a task of its own.
fn task_setup(rng: &mut Rng, index: usize) -> Setup {
    let every = if rng.u32(0..4) > 0 { 1 } else { 5 };
    let mut setup = setup(rng, index);
    // What is due when no task is started never runs.
    (setup.jobs).retain(|job| every == 1 || !matches!(job.when, When::Hourly(17)));
    if rng.u32(0..4) == 0 {
        setup.jobs.push(LONG_JOB.clone());
    }
    Setup {
        task_every: Some(every),
        replicas: 1,
        // As if each run were many tasks.
        most_tasks: [5, 30, MOST_TASKS][[0, 1, 2, 2, 2, 2, 2, 2][rng.usize(0..8)]],
        ecs: true,
        restarts: rng.u32(0..10) < 6,
        stops_tasks: false,
        // Not as short as the pause between two runs.
        stale_after: setup.stale_after.filter(|stale| every == 1 || *stale > 5),
        drifts: false,
        ..setup
    }
}

/// What happens to such a scheduler, and for how many minutes.
fn task_trouble(rng: &mut Rng, setup: &Setup) -> (What, i64, i64) {
    let job = rng.usize(0..setup.jobs.len().max(1));
    let has_jobs = !setup.jobs.is_empty();
    let other = rng.bool();
    match rng.u32(0..24) {
        0..6 => (What::ScheduleOff, 2, 900),
        6..10 => (What::TasksFail { pull: other }, 2, 300),
        // Of a schedule's tasks that hang for so long, ECS shows more than are looked at.
        10..13 => (What::TasksMute { hang: other }, 2, 900),
        13..15 => (What::Failing, 2, 300),
        15 => (What::LogsDie, 2, 120),
        16..18 if has_jobs => (What::JobStuck(job), 5, 3000),
        18 if has_jobs && setup.at_end => (What::JobFails(job), 5, 3000),
        19..21 if has_jobs => (What::JobHangs(job), 5, 900),
        21 => (What::Twice, 10, 600),
        22 => (What::Silenced, 30, 1200),
        _ => (What::Errors, 2, 60),
    }
}

/// What happens to the watchdog or between it and the scheduler, and for how many minutes.
fn fault(rng: &mut Rng) -> (What, i64, i64) {
    use Obstacle::{Denied, Failed, Missing, Throttled, TimedOut};
    let odds = [100, 500, 1000][rng.usize(0..3)];
    let done = rng.bool();
    let obstacle = [Throttled, TimedOut, Failed, Denied, Missing][rng.usize(0..5)];
    match rng.u32(0..20) {
        0..3 => (
            What::Lag([60, 110, 300, 600, 1200][rng.usize(0..5)]),
            5,
            300,
        ),
        3..5 => (What::Loss([20, 200, 700, 1000][rng.usize(0..4)]), 2, 120),
        5..7 => (What::NoLog(obstacle, odds), 5, 600),
        7 => (What::Cut(rng.usize(1..12)), 5, 300),
        8 if rng.bool() => (What::NoHealth(odds), 5, 300),
        8 => (What::NoProbe(odds), 5, 300),
        9 => (What::NoEcs(obstacle, odds), 5, 600),
        10 => (What::NoRestart { done, odds }, 30, 1200),
        11 => (What::NoLoad(odds), 5, 120),
        12 => (What::NoSave { done, odds }, 5, 120),
        13 => (What::NoTopic { done, odds }, 5, 300),
        14 => (What::Asleep(odds), 5, 300),
        15..17 => (What::Killed(odds), 30, 600),
        17 => (What::Concurrent(odds), 30, 600),
        18 => (What::Again(odds), 30, 600),
        _ => (What::Hurried(odds), 30, 300),
    }
}

impl Setup {
    pub fn zone(&self) -> TimeZone {
        TimeZone::get(self.zone).unwrap()
    }

    fn toml(&self) -> String {
        let stale_after = (self.stale_after).map_or("auto".to_owned(), |m| format!("{m}m"));
        let mut text = format!(
            "[[scheduler]]\nname = \"{}\"\nlog_groups = [\"/ecs/app\"]\n\
             stale_after = \"{stale_after}\"\ntimezone = \"{}\"\n",
            self.name, self.zone
        );
        if self.health {
            text.push_str("health_url = \"https://app.example/health\"\n");
        }
        if self.ecs {
            let (target, cure) = match self.task_every {
                Some(_) => ("task_definition", "run-task"),
                None => ("service", "force-new-deployment"),
            };
            let action = if self.restarts { cure } else { "none" };
            let replica = if self.stops_tasks {
                "stop-task"
            } else {
                "none"
            };
            text.push_str(&format!(
                "[scheduler.ecs]\ncluster = \"c\"\n{target} = \"{}\"\ncontainer = \"app\"\n\
                 [scheduler.remediation]\naction = \"{action}\"\nreplica_action = \"{replica}\"\n",
                self.name
            ));
        }
        if self.maintenance {
            text.push_str("[[scheduler.silence]]\ncron = \"0 3 * * *\"\nduration = \"1h\"\n");
        }
        for job in &self.jobs {
            let (name, cron) = (job.name, job.when.cron());
            text.push_str(&format!(
                "[[scheduler.job]]\nname = \"{name}\"\ncron = \"{cron}\"\n"
            ));
            if let Some(minutes) = job.max_runtime {
                text.push_str(&format!("max_runtime = \"{minutes}m\"\n"));
            }
        }
        text
    }
}
