//! Schedulers without a service: each run is a task of its own.

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::Language;
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::message::{Context, render};
use scheduler_watchdog::plan::{
    CureKind, Gate, Handling, Notification, Occasion, Plan, Reason, Verdict,
};
use scheduler_watchdog::remedy;
use scheduler_watchdog::snapshot::{Fleet, Observed, Obstacle, ServiceFacts, Task};
use scheduler_watchdog::state::{MOST_BYTES, Outcome, State};

use crate::stage::{Stage, minutes, seconds, stream, task, unknown};

const CONFIG: &str = r#"
[[scheduler]]
name = "myteacher-production"
log_groups = ["/ecs/myteacher-production"]
[scheduler.ecs]
cluster = "myteacher-production-cluster"
task_definition = "myteacher-scheduler"
container = "app"
[scheduler.remediation]
action = "run-task"
"#;

const EVENTBRIDGE: &str = "chronos-schedule/every-minute";

/// From the start of a task to its first line, and to its end.
const SPEAKS: SignedDuration = SignedDuration::from_secs(4);
const ENDS: SignedDuration = SignedDuration::from_secs(9);

/// A schedule that starts a task each minute, and what becomes of these.
struct Schedule {
    stage: Stage,
    began: Timestamp,
    /// Every task that there ever was, as it will have ended.
    tasks: Vec<Task>,
    /// ECS is asked about no more than these, in no order that can be relied on.
    most: usize,
}

impl Schedule {
    fn new(more: &str) -> Self {
        let stage = Stage::of(&format!("{CONFIG}{more}"));
        Self {
            began: stage.now,
            stage,
            tasks: Vec::new(),
            most: usize::MAX,
        }
    }

    fn at(&self, minute: i64) -> Timestamp {
        self.began + minutes(minute)
    }

    /// A task of that minute: started half a minute later, as Fargate does, and ended well.
    fn task(&mut self, minute: i64) -> &mut Task {
        let start = self.at(minute) + seconds(30);
        let mut task = task(&id(minute), EVENTBRIDGE, start);
        task.stopped_at = Some(start + ENDS);
        task.stop_code = "EssentialContainerExited".to_owned();
        task.stopped_reason = "Essential container in task exited".to_owned();
        task.containers[0].exit_code = Some(0);
        self.tasks.push(task);
        self.tasks.last_mut().unwrap()
    }

    /// A line of that minute's task.
    fn says(&mut self, minute: i64, after: SignedDuration, kind: Kind, text: &str) {
        let at = self.at(minute) + seconds(30) + after;
        let after = at.duration_since(self.stage.now);
        self.stage.push(&id(minute), after, kind, text);
    }

    /// The schedule works in these minutes, and no job is due.
    fn idles(&mut self, minutes: std::ops::Range<i64>) {
        for minute in minutes {
            self.task(minute);
            self.says(minute, SPEAKS, Kind::Heartbeat(Pulse::Idle), "idle");
        }
    }

    /// A foreground job's line in that minute's task, printed when it ended.
    fn runs(&mut self, minute: i64, took: SignedDuration) {
        let event = JobEvent::Ended { took: Some(took) };
        self.says(minute, SPEAKS + took, job(event), "report:daily");
    }

    /// What ECS says by now: what runs, and what ended within the last hour.
    fn look_at_ecs(&mut self) {
        let now = self.stage.now;
        let mut tasks: Vec<Task> = (self.tasks.iter())
            .filter(|task| {
                task.started_at
                    .or(task.stopped_at)
                    .is_none_or(|at| at <= now)
            })
            .filter(|task| (task.stopped_at).is_none_or(|at| now.duration_since(at) < minutes(60)))
            .map(|task| {
                let mut task = task.clone();
                if task.stopped_at.is_some_and(|at| at <= now) {
                    task.last_status = "STOPPED".to_owned();
                } else {
                    task.stopped_at = None;
                    task.containers[0].exit_code = None;
                }
                task
            })
            .collect();
        let truncated = tasks.len() > self.most;
        tasks.truncate(self.most);
        self.stage.service = Observed::Known(ServiceFacts {
            status: "ACTIVE".to_owned(),
            controller: "ECS".to_owned(),
            desired: 1,
            tasks,
            truncated,
            ..ServiceFacts::default()
        });
    }

    /// A pass at the end of that minute.
    fn pass(&mut self, minute: i64) -> Plan {
        self.stage.now = self.at(minute);
        if self.stage.service.known().is_some() {
            self.look_at_ecs();
        }
        self.stage.pass()
    }

    /// Passes every five minutes, up to and including that minute.
    fn passes(&mut self, until: i64) -> Vec<Plan> {
        let passed = self.stage.now.duration_since(self.began).as_secs() / 60;
        (passed + 5..=until)
            .step_by(5)
            .map(|minute| self.pass(minute))
            .collect()
    }
}

fn id(minute: i64) -> String {
    format!("task{minute:04}")
}

fn job(event: JobEvent) -> Kind {
    Kind::Job {
        name: "report:daily".to_owned(),
        event,
        background: false,
    }
}

fn told(plans: &[Plan]) -> Vec<(Condition, Occasion)> {
    (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .map(|n| (n.condition, n.occasion))
        .collect()
}

fn runs_of(plan: &Plan) -> (u32, u32, u32) {
    (plan.notifications[0].proof.iter())
        .find_map(|fact| match fact {
            Fact::Runs {
                started,
                failed,
                running,
                ..
            } => Some((*started, *failed, *running)),
            _ => None,
        })
        .unwrap()
}

/// Half an hour in which all is well; `more` is added to the configuration.
fn after_half_an_hour(more: &str) -> Schedule {
    let mut schedule = Schedule::new(more);
    schedule.idles(0..30);
    for plan in schedule.passes(30) {
        assert_eq!(plan.verdict, Verdict::Healthy, "{plan}");
    }
    schedule
}

// Conditions

/// A day of ever new streams, some of which overlap: nothing is wrong, ECS is never asked, and what
/// is remembered stays small.
#[test]
fn tasks_that_come_and_go_are_a_healthy_scheduler() {
    let mut schedule = Schedule::new("");
    schedule.idles(0..24 * 60);
    for minute in (0..24 * 60).step_by(7) {
        schedule.runs(minute, minutes(2));
    }
    for minute in (5..=24 * 60).step_by(5) {
        schedule.stage.now = schedule.at(minute);
        let snapshot = schedule.stage.snapshot();
        assert!(snapshot.service.is_none() && snapshot.probe.is_none());
        let plan = schedule.stage.pass();
        assert_eq!(plan.verdict, Verdict::Healthy, "{minute}: {plan}");
    }
    let state = &schedule.stage.state;
    assert!(state.heartbeats.streams.len() <= 64);
    assert!(state.to_json().len() < MOST_BYTES / 2);
    // The rhythm is learned although no stream shows it.
    assert_eq!(state.heartbeats.usual_gap(), Some(minutes(1)));
}

/// Every quarter of an hour is a rhythm, too.
#[test]
fn the_rhythm_of_rare_tasks_is_learned() {
    let mut schedule = Schedule::new("");
    for minute in (0..12 * 60).step_by(15) {
        schedule.idles(minute..minute + 1);
    }
    let plans = schedule.passes(12 * 60);
    let state = &schedule.stage.state;
    assert_eq!(state.heartbeats.usual_gap(), Some(minutes(15)));
    assert_eq!(plans.last().unwrap().allowed_silence, minutes(30));
    let later = &plans[3 * 12..];
    assert!(later.iter().all(|plan| plan.verdict == Verdict::Healthy));
}

#[test]
fn no_task_was_started() {
    let mut schedule = after_half_an_hour("");
    let plan = schedule.pass(35);
    assert_eq!(
        told(std::slice::from_ref(&plan)),
        [(Condition::ServiceDown, Occasion::Opened)]
    );
    assert_eq!(runs_of(&plan), (0, 0, 0));
    assert_eq!(plan.notifications[0].cause_id(), "unknown");
}

/// A failure of long ago does not explain why nothing is started now.
#[test]
fn what_failed_before_the_silence_is_no_cause() {
    let mut schedule = Schedule::new("");
    let pull = schedule.task(0);
    (pull.started_at, pull.containers[0].exit_code) = (None, None);
    pull.stopped_reason = "CannotPullContainerError: manifest unknown".to_owned();
    schedule.idles(1..30);
    schedule.passes(30);
    let plan = schedule.pass(35);
    assert_eq!(
        told(std::slice::from_ref(&plan)),
        [(Condition::ServiceDown, Occasion::Opened)]
    );
    assert_eq!(plan.notifications[0].cause_id(), "unknown");
}

/// Tasks are started and fail: the reasons are the evidence, and one more would fail as well.
#[test]
fn tasks_that_fail_are_told_with_their_reasons() {
    type Change = fn(&mut Task);
    let cases: [(&str, Change); 3] = [
        ("image-pull", |task| {
            (task.started_at, task.containers[0].exit_code) = (None, None);
            task.stop_code = "TaskFailedToStart".to_owned();
            task.stopped_reason = "CannotPullContainerError: manifest unknown".to_owned();
        }),
        ("out-of-memory-kill", |task| {
            task.containers[0].exit_code = Some(137);
            task.containers[0].reason =
                "OutOfMemoryError: Container killed due to memory usage".to_owned();
        }),
        ("unknown", |task| task.containers[0].exit_code = Some(2)),
    ];
    for (cause, change) in cases {
        let mut schedule = after_half_an_hour("");
        for minute in 30..45 {
            change(schedule.task(minute));
        }
        let plan = schedule.pass(35);
        assert_eq!(
            told(std::slice::from_ref(&plan)),
            [(Condition::ServiceDown, Occasion::Opened)],
            "{cause}"
        );
        assert_eq!(runs_of(&plan), (5, 5, 0), "{cause}");
        let notification = &plan.notifications[0];
        assert_eq!(notification.cause_id(), cause);
        let stopped = (notification.proof.iter()).find_map(|fact| match fact {
            Fact::Stopped { reasons } => Some(reasons.join(" ")),
            _ => None,
        });
        // Those that ended well before are no news.
        let stopped = stopped.unwrap();
        assert!(
            stopped.contains(&id(34)) && !stopped.contains(&id(29)),
            "{stopped}"
        );
        let gates = schedule.pass(40).remediation.unwrap().blocked_by;
        assert!(gates.contains(&Gate::ConditionNotRestartable), "{gates:?}");
    }
}

/// With `--whisper` the last tasks that ran well had nothing to say, if nothing was due.
#[test]
fn a_task_that_ran_without_a_word_does_not_hide_that_all_after_it_fail() {
    let mut schedule = after_half_an_hour("");
    schedule.task(30);
    for minute in 31..40 {
        schedule.task(minute).containers[0].exit_code = Some(2);
    }
    let plan = schedule.pass(36);
    assert_eq!(
        told(std::slice::from_ref(&plan)),
        [(Condition::ServiceDown, Occasion::Opened)]
    );
    assert_eq!(runs_of(&plan), (5, 5, 0));
}

/// What stands beside the scheduler in its task is killed with it, and proves nothing.
#[test]
fn only_the_schedulers_own_exit_code_counts() {
    let mut schedule = after_half_an_hour("");
    for minute in 30..40 {
        let task = schedule.task(minute);
        let mut router = task.containers[0].clone();
        (router.name, router.exit_code) = ("log-router".to_owned(), Some(137));
        router.reason = "OutOfMemoryError: Container killed due to memory usage".to_owned();
        task.containers.push(router);
    }
    schedule.stage.other_lines();
    let plan = schedule.pass(35);
    assert_eq!(plan.conditions, [Condition::SchedulerSilent]);
    assert_eq!(plan.notifications[0].cause_id(), "unknown");
}

/// Tasks run and end well, but the scheduler says nothing.
#[test]
fn tasks_without_a_word_are_a_silent_scheduler_or_silent_logs() {
    for (other_lines, condition) in [
        (true, Condition::SchedulerSilent),
        (false, Condition::LogsSilent),
    ] {
        let mut schedule = after_half_an_hour("");
        for minute in 30..45 {
            schedule.task(minute);
        }
        if other_lines {
            schedule.stage.other_lines();
        }
        let plan = schedule.pass(35);
        assert_eq!(plan.conditions, [condition], "{plan}");
        let gates = schedule.pass(40).remediation.unwrap().blocked_by;
        assert!(gates.contains(&Gate::ConditionNotRestartable), "{gates:?}");
    }
}

/// A task that has just started excuses a silence once, not each minute anew.
/// Tasks hang, and not all that there are can be looked at.
fn with_more_than_are_looked_at(most: usize) -> (Plan, Schedule) {
    let mut schedule = after_half_an_hour("");
    schedule.most = most;
    schedule.stage.other_lines();
    for minute in 30..45 {
        schedule.task(minute).stopped_at = None;
    }
    (schedule.pass(35), schedule)
}

/// So many tasks hang that not all are looked at: those that were started lately can be among the
/// others, and so can one that has only just begun.
#[test]
fn tasks_that_were_not_looked_at_prove_nothing() {
    for (most, started) in [(10, 0), (32, 2)] {
        let (plan, mut schedule) = with_more_than_are_looked_at(most);
        assert_eq!(plan.conditions, [Condition::SchedulerSilent], "{plan}");
        assert_eq!(runs_of(&plan), (started, 0, started));
        let gates = schedule.pass(40).remediation.unwrap().blocked_by;
        assert!(gates.contains(&Gate::ConditionNotRestartable), "{gates:?}");
    }
}

#[test]
fn the_next_task_does_not_excuse_those_before_it() {
    let mut schedule = after_half_an_hour("");
    schedule.stage.other_lines();
    // It hangs: it never ends, and neither do those after it.
    for minute in 33..45 {
        schedule.task(minute).stopped_at = None;
    }
    let plan = schedule.pass(35);
    assert_eq!(plan.verdict, Verdict::Suspended, "{plan}");
    assert!(matches!(plan.reason, Reason::TaskStarting { .. }));
    let plan = schedule.pass(40);
    assert_eq!(
        told(std::slice::from_ref(&plan)),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
    assert_eq!(runs_of(&plan), (5, 0, 7));
}

#[test]
fn a_task_excuses_a_silence_until_its_time_to_start_is_over() {
    for (age, expected) in [(179, Verdict::Suspended), (180, Verdict::Firing)] {
        let mut schedule = after_half_an_hour("");
        schedule.stage.other_lines();
        let task = schedule.task(33);
        task.stopped_at = None;
        schedule.stage.now = task.started_at.unwrap() + seconds(age);
        schedule.look_at_ecs();
        assert_eq!(schedule.stage.pass().verdict, expected, "{age} s");
    }
}

#[test]
fn the_runs_that_failed_are_counted_by_themselves() {
    let mut schedule = after_half_an_hour("");
    for minute in 30..35 {
        let failed = minute < 32;
        schedule.task(minute).containers[0].exit_code = Some(i32::from(failed));
    }
    schedule.stage.other_lines();
    let plan = schedule.pass(35);
    assert_eq!(plan.conditions, [Condition::SchedulerSilent]);
    assert_eq!(runs_of(&plan), (5, 2, 0));
}

/// ECS says so by the status, or by the time.
#[test]
fn a_task_has_stopped_when_ecs_says_so() {
    let start = Stage::of(CONFIG).now;
    for (status, stopped_at, expected) in [
        ("RUNNING", None, false),
        ("STOPPED", None, true),
        ("DEPROVISIONING", Some(start), true),
    ] {
        let mut task = task("t", EVENTBRIDGE, start);
        (task.last_status, task.stopped_at) = (status.to_owned(), stopped_at);
        assert_eq!(task.is_stopped(), expected, "{status}");
    }
}

/// Lately is within the silence that is allowed: after its beginning, not at it.
#[test]
fn runs_are_counted_since_a_moment_and_not_from_it_on() {
    for (age, counted) in [(299, 5), (300, 4)] {
        let mut schedule = after_half_an_hour("");
        for minute in 30..35 {
            schedule.task(minute).containers[0].exit_code = Some(2);
        }
        // The oldest of them is of minute 30.
        schedule.stage.now = schedule.at(30) + seconds(30 + age);
        schedule.look_at_ecs();
        let plan = schedule.stage.pass();
        assert_eq!(runs_of(&plan).0, counted, "{age} s: {plan}");
    }
}

/// A job that runs for long in one task keeps no other from starting, and excuses no silence.
#[test]
fn a_long_job_in_one_task_silences_no_other() {
    let long =
        "[[scheduler.job]]\nname = \"report:daily\"\ncron = \"20 0 * * *\"\nmax_runtime = \"1h\"\n";
    // The others go on.
    let mut schedule = Schedule::new(long);
    schedule.idles(0..120);
    schedule.tasks[20].stopped_at = Some(schedule.at(75));
    schedule
        .stage
        .lines
        .retain(|line| !line.stream.ends_with(&id(20)));
    schedule.runs(20, minutes(50));
    let plans = schedule.passes(120);
    assert!(plans.iter().all(|plan| plan.verdict == Verdict::Healthy));
    // They do not.
    let mut schedule = Schedule::new(long);
    schedule.idles(0..21);
    schedule.tasks[20].stopped_at = None;
    schedule
        .stage
        .lines
        .retain(|line| !line.stream.ends_with(&id(20)));
    let plans = schedule.passes(35);
    assert_eq!(told(&plans), [(Condition::ServiceDown, Occasion::Opened)]);
    let opened = plans.iter().find(|plan| !plan.notifications.is_empty());
    // The task of minute 20 may be busy; nothing is started after it.
    assert_eq!(runs_of(opened.unwrap()).2, 1);
}

#[test]
fn every_run_that_aborts_is_a_failing_scheduler() {
    let mut schedule = after_half_an_hour("");
    for minute in 30..60 {
        schedule.task(minute).containers[0].exit_code = Some(1);
        let kind = Kind::Error {
            aborts: true,
            context: None,
            trace: Vec::new(),
        };
        schedule.says(minute, SPEAKS, kind, "NOAUTH Authentication required.");
    }
    let plans = schedule.passes(45);
    assert_eq!(
        told(&plans),
        [(Condition::SchedulerFailing, Occasion::Opened)]
    );
    let notification = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .next()
        .unwrap();
    assert_eq!(notification.cause_id(), "redis-auth");
}

/// Runs that end well clear the account of those that did not, though no stream shows both.
#[test]
fn a_whole_run_ends_the_account_of_aborted_ones() {
    let mut schedule = Schedule::new("");
    let abort = Kind::Error {
        aborts: true,
        context: None,
        trace: Vec::new(),
    };
    schedule.says(0, SPEAKS, abort, "something");
    for minute in 1..20 {
        schedule.runs(minute, seconds(1));
    }
    schedule.passes(20);
    assert!(schedule.stage.state.heartbeats.aborts.is_empty());
}

#[test]
fn a_task_that_prints_no_boot_line_is_not_one_that_did_not_start() {
    let mut schedule = Schedule::new("");
    // The web service of the same image prints it.
    schedule.says(0, seconds(0), Kind::Boot, "Starting Laravel Scheduler");
    schedule.idles(0..30);
    schedule.passes(30);
    schedule.stage.other_lines();
    for minute in 30..45 {
        schedule.task(minute).stopped_at = None;
    }
    let plan = schedule.pass(35);
    assert_eq!(plan.conditions, [Condition::SchedulerSilent]);
    assert_eq!(plan.notifications[0].cause_id(), "unknown");
}

#[test]
fn two_tasks_of_the_same_minute_run_a_job_twice() {
    let jobs = "[[scheduler.job]]\nname = \"report:daily\"\ncron = \"*/5 * * * *\"\n";
    let mut schedule = Schedule::new(jobs);
    schedule.idles(0..60);
    for minute in (5..60).step_by(5) {
        schedule.runs(minute, seconds(1));
        let twin = stream(&format!("{}-twin", id(minute)));
        let mut line = schedule.stage.lines.last().unwrap().clone();
        line.stream = twin.into();
        line.at += seconds(5);
        schedule.stage.lines.push(line);
    }
    let plans = schedule.passes(40);
    assert_eq!(told(&plans), [(Condition::DuplicateRuns, Occasion::Opened)]);
}

/// Up to Laravel 9.20 a line tells of the start only, and it is the last one of its task's stream.
#[test]
fn a_start_that_is_a_tasks_last_line_is_no_run_without_end() {
    let jobs =
        "[[scheduler.job]]\nname = \"report:daily\"\ncron = \"0 * * * *\"\nmax_runtime = \"10m\"\n";
    let mut schedule = Schedule::new(jobs);
    schedule.idles(0..120);
    schedule.says(
        60,
        SPEAKS + seconds(1),
        job(JobEvent::Started),
        "report:daily",
    );
    assert_eq!(told(&schedule.passes(100)), []);
}

/// A line breaks off because the job itself prints, too. That other tasks come after it does not
/// prove that it ended.
#[test]
fn a_run_that_goes_on_beside_others_has_left_no_lock() {
    let jobs = "[[scheduler.job]]\nname = \"report:daily\"\ncron = \"*/5 * * * *\"\n";
    let mut schedule = Schedule::new(jobs);
    schedule.idles(0..120);
    for minute in (0..60).step_by(5) {
        schedule.runs(minute, seconds(1));
    }
    let begins = SPEAKS + seconds(1);
    schedule.says(60, begins, job(JobEvent::CutOff), "Running report:daily");
    let told: Vec<_> = (schedule.passes(90).into_iter())
        .flat_map(|plan| plan.notifications)
        .filter(|told| told.condition == Condition::JobOverdue)
        .map(|told| told.cause_id().to_owned())
        .collect();
    assert_eq!(told, ["unknown"]);
}

#[test]
fn a_scheduler_that_was_never_heard_and_never_started_is_not_started_by_the_watchdog() {
    let mut schedule = Schedule::new("");
    let _ = schedule.pass(0);
    let plans = schedule.passes(60);
    assert_eq!(told(&plans), [(Condition::ServiceDown, Occasion::Opened)]);
    let gates = &plans
        .last()
        .unwrap()
        .remediation
        .as_ref()
        .unwrap()
        .blocked_by;
    assert!(gates.contains(&Gate::ConditionNotRestartable), "{gates:?}");
}

// The run by hand

/// What keeps the watchdog from a run by hand, ten minutes after the last run.
fn gates_after(more: &str, change: impl FnOnce(&mut Schedule)) -> Vec<Gate> {
    let mut schedule = after_half_an_hour(more);
    let _ = schedule.pass(35);
    change(&mut schedule);
    let plan = schedule.pass(40);
    plan.remediation.expect("something to remedy").blocked_by
}

#[test]
fn each_gate_of_a_run_by_hand_closes_by_itself() {
    assert_eq!(gates_after("", |_| ()), []);
    assert_eq!(gates_after("after = \"20m\"\n", |_| ()), [Gate::TooEarly]);
    assert_eq!(
        gates_after("", |s| s.stage.service =
            Observed::Unknown(unknown(Obstacle::Denied))),
        // Whether something was started is not known then, either.
        [
            Gate::TooEarly,
            Gate::ConditionNotRestartable,
            Gate::LogsNotProvenAlive,
            Gate::EcsUnknown
        ]
    );
    assert_eq!(
        gates_after("", |s| s.stage.log_error =
            Some(unknown(Obstacle::Throttled)))[..2],
        [Gate::NotFoundNow, Gate::ConditionNotRestartable]
    );
    // One that began before the silence still runs: its jobs may, too.
    assert_eq!(
        gates_after("", |s| s.tasks[29].stopped_at = None),
        [Gate::JobMayBeRunning]
    );
    let mutable = |s: &mut Schedule| {
        for task in &mut s.tasks {
            task.containers[0].image = "app:latest".to_owned();
        }
    };
    assert_eq!(gates_after("", mutable), [Gate::MutableImageTag]);
    assert_eq!(gates_after("allow_mutable_image_tag = true\n", mutable), []);
    // The newest definition counts.
    assert_eq!(
        gates_after("", |s| s.tasks[0].containers[0].image =
            "app:latest".to_owned()),
        []
    );
    assert_eq!(
        gates_after("", |s| s.stage.fleet = Fleet {
            watched: 4,
            firing: 3
        }),
        [Gate::Storm]
    );
    assert_eq!(
        gates_after("", |s| s.stage.state.restarts.locked_out_at =
            Some(s.stage.now)),
        [Gate::LockedOut]
    );
}

/// A run by hand is made, and its task is started.
fn run_by_hand(schedule: &mut Schedule, minute: i64) -> Plan {
    let plan = schedule.pass(minute);
    let remediation = plan.remediation.as_ref().unwrap();
    assert!(remediation.allowed(), "{:?}", remediation.blocked_by);
    assert_eq!(remediation.cure, CureKind::RunTask);
    remedy::settle(&mut schedule.stage.state, &Ok(Some(id(minute))));
    let token = remediation.token.clone();
    schedule.task(minute).started_by = token;
    plan
}

/// The run's own heartbeat proves it, and does not end the incident: the schedule is still broken.
#[test]
fn a_run_by_hand_is_proven_and_mends_nothing() {
    let mut schedule = after_half_an_hour("");
    let _ = schedule.pass(35);
    let _ = run_by_hand(&mut schedule, 40);
    schedule.says(40, SPEAKS, Kind::Heartbeat(Pulse::Idle), "idle");
    // A second line of it, in the next look: not the schedule's sign of life either.
    schedule.says(40, minutes(6), Kind::Heartbeat(Pulse::Idle), "idle");
    let plan = schedule.pass(45);
    assert_eq!(
        told(std::slice::from_ref(&plan)),
        [(Condition::ServiceDown, Occasion::Remediated)]
    );
    let notification = &plan.notifications[0];
    assert!(matches!(
        notification.handling,
        Handling::Cured {
            cure: CureKind::RunTask,
            seconds: 34,
            ..
        }
    ));
    assert_eq!(notification.until, None);
    assert_eq!(plan.verdict, Verdict::Firing);
    assert_eq!(plan.conditions, [Condition::ServiceDown]);

    // After the cooldown once more, and then no more.
    let plans = schedule.passes(65);
    assert_eq!(told(&plans), []);
    let gates = |plan: &Plan| plan.remediation.clone().unwrap().blocked_by;
    assert_eq!(gates(plans.last().unwrap()), [Gate::Cooldown]);
    let again = run_by_hand(&mut schedule, 70);
    assert_ne!(
        again.remediation.unwrap().token,
        schedule.stage.state.restarts.attempts[0].token
    );
    schedule.says(70, SPEAKS, Kind::Heartbeat(Pulse::Idle), "idle");
    let plans = schedule.passes(110);
    assert!(gates(plans.last().unwrap()).contains(&Gate::AttemptsPerIncident));
    // A reminder does not pretend that it is handled.
    let reminder = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .find(|n| n.occasion == Occasion::Reminder);
    if let Some(reminder) = reminder {
        assert!(matches!(reminder.handling, Handling::Withheld { .. }));
    }

    // The schedule works again: that ends it, and the run by hand did not do it.
    schedule.idles(110..130);
    let plans = schedule.passes(125);
    assert_eq!(told(&plans), [(Condition::ServiceDown, Occasion::Resolved)]);
    let resolved = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .next()
        .unwrap();
    assert_eq!(resolved.handling, Handling::CameBack);
    assert_eq!(resolved.until, Some(schedule.at(110) + seconds(34)));
}

/// The answer to the call was lost: the task is found by its token, and is no run of the schedule.
#[test]
fn a_run_by_hand_whose_answer_was_lost_is_traced() {
    let mut schedule = after_half_an_hour("");
    let _ = schedule.pass(35);
    let plan = schedule.pass(40);
    schedule.task(40).started_by = plan.remediation.unwrap().token;
    let plan = schedule.pass(45);
    assert_eq!(plan.conditions, [Condition::ServiceDown], "{plan}");
    assert!(schedule.stage.state.restarts.started(&id(40)));
    schedule.says(40, minutes(6), Kind::Heartbeat(Pulse::Idle), "idle");
    assert_eq!(
        told(&schedule.passes(50)),
        [(Condition::ServiceDown, Occasion::Remediated)]
    );
}

/// The answer was lost, and the task is not among those that are looked at: it may have been started.
#[test]
fn a_run_by_hand_that_cannot_be_seen_is_not_said_to_have_failed() {
    let mut schedule = after_half_an_hour("");
    let _ = schedule.pass(35);
    let plan = schedule.pass(40);
    schedule.task(40).started_by = plan.remediation.unwrap().token;
    schedule.most = 10;
    let _ = schedule.pass(45);
    let attempt = &schedule.stage.state.restarts.attempts[0];
    assert_eq!(attempt.outcome, Outcome::Claimed);
    schedule.most = usize::MAX;
    let _ = schedule.pass(50);
    assert!(schedule.stage.state.restarts.started(&id(40)));
}

#[test]
fn runs_by_hand_without_a_heartbeat_end_in_a_lock_out() {
    let mut schedule = after_half_an_hour("");
    let _ = schedule.pass(35);
    let _ = run_by_hand(&mut schedule, 40);
    let plans = schedule.passes(65);
    assert_eq!(
        told(&plans),
        [(Condition::ServiceDown, Occasion::RemediationFailed)]
    );
    let _ = run_by_hand(&mut schedule, 70);
    let plans = schedule.passes(90);
    assert!(
        told(&plans).contains(&(Condition::ServiceDown, Occasion::LockedOut)),
        "{:?}",
        told(&plans)
    );
}

#[test]
fn deciding_twice_on_the_same_tasks_plans_nothing_new() {
    let mut schedule = after_half_an_hour("");
    let _ = schedule.pass(35);
    let _ = schedule.pass(40);
    let state: State = schedule.stage.state.clone();
    let (plan, again) = schedule.stage.decide();
    assert!(plan.is_empty(), "{plan}");
    assert_eq!(again.heartbeats, state.heartbeats);
}

// Messages

/// A message about tasks, in both languages. It does not talk of what such a set-up has not.
fn mails(name: &str, notification: &Notification, schedule: &Schedule) {
    for (language, code) in [(Language::En, "en"), (Language::Ja, "ja")] {
        let message = render(
            notification,
            &Context {
                scheduler: Some(&schedule.stage.scheduler),
                language,
                region: "ap-northeast-1",
                hide_emails: true,
            },
        );
        let words = [
            "service",
            "Service",
            "deployment",
            "デプロイ",
            "サービス",
            "replica",
            "loop",
        ];
        let said = message.text.replace(&notification.incident, "");
        for line in said.lines() {
            let command = line.starts_with("aws ") || line.starts_with("https");
            let foreign = words.iter().find(|word| line.contains(**word));
            assert!(command || foreign.is_none(), "{foreign:?}: {line}");
        }
        let mail = format!("Subject: {}\n\n{}", message.subject, message.text);
        insta::assert_snapshot!(format!("{name}-{code}"), mail);
    }
}

#[test]
fn what_people_read_of_tasks() {
    let mut schedule = after_half_an_hour("");
    let plan = schedule.pass(35);
    mails("none-started", &plan.notifications[0], &schedule);
    let _ = run_by_hand(&mut schedule, 40);
    schedule.says(40, SPEAKS, Kind::Heartbeat(Pulse::Idle), "idle");
    let plan = schedule.pass(45);
    mails("ran-by-hand", &plan.notifications[0], &schedule);

    let mut schedule = after_half_an_hour("");
    for minute in 30..45 {
        schedule.task(minute).containers[0].exit_code = Some(2);
    }
    let plan = schedule.pass(35);
    mails("every-task-fails", &plan.notifications[0], &schedule);

    let mut schedule = after_half_an_hour("");
    schedule.stage.other_lines();
    for minute in 30..45 {
        schedule.task(minute).stopped_at = None;
    }
    let plan = schedule.pass(35);
    mails("tasks-hang", &plan.notifications[0], &schedule);

    for (most, name) in [
        (10, "not-looked-at-whether-started"),
        (32, "not-all-looked-at"),
    ] {
        let (plan, schedule) = with_more_than_are_looked_at(most);
        mails(name, &plan.notifications[0], &schedule);
    }
}

/// A run's last words may come up to a minute after its last job's line, and any line two minutes
/// late.
#[test]
fn a_task_that_fell_silent_without_an_abort_has_ended_well() {
    for (aborts, second, ended) in [(false, 179, false), (false, 180, true), (true, 600, false)] {
        let mut stage = Stage::of(CONFIG);
        let start = stage.now;
        let event = JobEvent::Ended {
            took: Some(SignedDuration::ZERO),
        };
        stage.push("1", SignedDuration::ZERO, job(event), "report:daily");
        if aborts {
            let kind = Kind::Error {
                aborts: true,
                context: None,
                trace: Vec::new(),
            };
            stage.push("1", seconds(30), kind, "boom");
        }
        stage.now += seconds(second);
        stage.look();
        let clean = stage.state.heartbeats.last_clean;
        assert_eq!(clean, ended.then_some(start), "{aborts} {second} s");
    }
}
