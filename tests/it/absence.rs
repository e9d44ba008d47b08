//! Why a job does not run although the loop lives: what its missing lines prove, and what they
//! do not.

use jiff::SignedDuration;
use scheduler_watchdog::cause::{Cause, Evidence};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::plan::{Notification, Occasion};

use crate::stage::{Stage, TASK, at, minutes};

const NEXT_TASK: &str = "9f8e7d6c";
const TIDY: &str = "[[scheduler.job]]\nname = \"tidy:up\"\ncron = \"*/5 * * * *\"\n";
const SYNC: &str = "[[scheduler.job]]\nname = \"orders:sync\"\ncron = \"*/5 * * * *\"\n";

/// What the loops of tasks print, minute by minute from midnight (UTC) on.
struct Play {
    stage: Stage,
}

impl Play {
    fn new(jobs: &str) -> Self {
        let mut stage = Stage::new(jobs);
        stage.other_lines();
        Self { stage }
    }

    fn second() -> SignedDuration {
        SignedDuration::from_secs(2)
    }

    /// The loop of a task in these minutes; jobs run every five minutes.
    fn run(&mut self, task: &str, span: std::ops::Range<i64>, jobs: &[&str]) -> &mut Self {
        for minute in span {
            let after = minutes(minute) + Self::second();
            let due = minute % 5 == 0;
            for name in jobs.iter().filter(|_| due) {
                let kind = Kind::Job {
                    name: (*name).to_owned(),
                    event: JobEvent::Ended {
                        took: Some(SignedDuration::from_millis(120)),
                    },
                    background: false,
                };
                self.stage.push(task, after, kind, name);
            }
            if !due || jobs.is_empty() {
                let idle = Kind::Heartbeat(Pulse::Idle);
                self.stage.push(task, after, idle, "idle");
            }
        }
        self
    }

    fn line(&mut self, task: &str, minute: i64, kind: Kind, text: &str) -> &mut Self {
        self.stage
            .push(task, minutes(minute) + Self::second(), kind, text);
        self
    }

    /// A run that began and was cut off.
    fn cut_off(&mut self, task: &str, minute: i64, job: &str) -> &mut Self {
        let kind = Kind::Job {
            name: job.to_owned(),
            event: JobEvent::CutOff,
            background: false,
        };
        self.line(task, minute, kind, &format!("Running ['artisan' {job}]"))
    }

    /// What is told of overdue jobs until that minute, the newest last.
    fn told(&mut self, until: i64) -> Vec<Notification> {
        self.stage.lines.sort_by_key(|line| line.at);
        (self
            .stage
            .passes(usize::try_from(until / 5).unwrap())
            .into_iter())
        .flat_map(|plan| plan.notifications)
        .filter(|told| told.condition == Condition::JobOverdue)
        .collect()
    }
}

/// The cause that is told last of a job, alone or among others.
fn cause_of(told: &[Notification], job: &str) -> Option<Cause> {
    let is_among = |fact: &Fact| matches!(fact, Fact::Jobs { names, .. } if names.iter().any(|name| name == job));
    let is_about =
        |told: &&Notification| told.job() == Some(job) || told.proof.iter().any(is_among);
    let last = (told.iter()).rfind(|told| is_about(told) && told.occasion != Occasion::Resolved);
    let last = last.unwrap_or_else(|| panic!("{job} was not told: {told:?}"));
    last.causes.first().cloned()
}

fn id(cause: &Option<Cause>) -> &str {
    cause.as_ref().map_or("unknown", |cause| cause.id.as_str())
}

const KILLED: &str = "loop.sh: line 1:  9554 Killed                  php artisan schedule:run";

fn killed() -> Kind {
    Kind::Error {
        aborts: true,
        context: None,
        trace: Vec::new(),
    }
}

#[test]
fn a_run_that_was_killed_leaves_its_lock() {
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
        .cut_off(TASK, 62, "tidy:up")
        .line(TASK, 62, killed(), KILLED)
        .run(TASK, 63..150, &["orders:sync"]);
    let told = play.told(120);
    assert!(told.iter().all(|told| told.cause_id() == "stuck-mutex"));
    let cause = cause_of(&told, "tidy:up");
    let Some(Evidence::Fact(Fact::CutOff {
        start,
        killed,
        line,
        ..
    })) = cause.map(|cause| cause.evidence[0].clone())
    else {
        panic!("it says what was cut off");
    };
    assert!(killed);
    assert_eq!(start, at("2025-12-02T01:02:02Z"));
    assert_eq!(line, "Running ['artisan' tidy:up]");
}

/// Laravel keeps it for a day, unless it is told otherwise.
#[test]
fn a_lock_holds_no_longer_than_a_day() {
    // It is due at 01:00 of the next day but one.
    let monthly = "[[scheduler.job]]\nname = \"tidy:up\"\ncron = \"0 1 3 12 *\"\n";
    for (began, expected) in [(59, "unknown"), (60, "stuck-mutex")] {
        let mut play = Play::new(&format!("{monthly}{SYNC}"));
        play.run(TASK, 1..27 * 60, &["orders:sync"])
            .cut_off(TASK, began, "tidy:up")
            .line(TASK, began, killed(), KILLED);
        let cause = cause_of(&play.told(26 * 60 + 10), "tidy:up");
        assert_eq!(id(&cause), expected, "{began}");
    }
}

/// It ended in the second of its beginning or later, so that its lock is free; an end before that is
/// one of the run before.
#[test]
fn a_run_that_ended_leaves_no_lock() {
    for (ended, expected) in [(-1, "stuck-mutex"), (0, "unknown"), (30, "unknown")] {
        let mut play = Play::new(&format!("{TIDY}{SYNC}"));
        play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
            .cut_off(TASK, 62, "tidy:up")
            .run(NEXT_TASK, 64..150, &["orders:sync"]);
        // The application says so.
        let kind = Kind::Job {
            name: "tidy:up".to_owned(),
            event: JobEvent::Succeeded { took: None },
            background: false,
        };
        let after = minutes(62) + Play::second() + SignedDuration::from_secs(ended);
        play.stage.push(TASK, after, kind, "ended tidy:up");
        play.stage.lines.last_mut().unwrap().heartbeat = false;
        let cause = cause_of(&play.told(120), "tidy:up");
        assert_eq!(id(&cause), expected, "{ended} s");
    }
}

#[test]
fn a_run_whose_task_ended_leaves_its_lock() {
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
        .cut_off(TASK, 62, "tidy:up")
        .run(NEXT_TASK, 64..150, &["orders:sync"]);
    let cause = cause_of(&play.told(120), "tidy:up");
    assert_eq!(id(&cause), "stuck-mutex");
    // One that ran beside it took nothing over.
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
        .cut_off(TASK, 62, "tidy:up")
        .run(NEXT_TASK, 62..150, &["orders:sync"]);
    let cause = cause_of(&play.told(120), "tidy:up");
    assert_eq!(id(&cause), "unknown");
    // Another one began, and its own goes on.
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
        .cut_off(TASK, 62, "tidy:up")
        .run(TASK, 63..150, &["orders:sync"])
        .run(NEXT_TASK, 64..150, &["orders:sync"]);
    let cause = cause_of(&play.told(120), "tidy:up");
    assert_eq!(id(&cause), "unknown");
}

#[test]
fn a_line_that_something_else_cut_is_no_proof() {
    // The logger wrote into it, and the loop went on: the run ended, unseen.
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
        .cut_off(TASK, 62, "tidy:up")
        .run(TASK, 63..150, &["orders:sync"]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    // It failed, and Laravel gave the lock back.
    let failed = Kind::Error {
        aborts: true,
        context: Some("console.php".to_owned()),
        trace: Vec::new(),
    };
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
        .cut_off(TASK, 62, "tidy:up")
        .line(TASK, 62, failed, "boom")
        .run(TASK, 63..150, &["orders:sync"]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
}

#[test]
fn a_job_that_simply_stops_has_no_known_cause() {
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..62, &["tidy:up", "orders:sync"])
        .run(TASK, 62..150, &["orders:sync"]);
    let told = play.told(120);
    assert_eq!(id(&cause_of(&told, "tidy:up")), "unknown");
}

#[test]
fn all_jobs_that_stop_at_once_are_held_back() {
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..72, &["tidy:up", "orders:sync"])
        .run(TASK, 72..150, &[]);
    let told = play.told(120);
    for job in ["tidy:up", "orders:sync"] {
        let cause = cause_of(&told, job);
        assert_eq!(id(&cause), "maintenance-or-pause");
        let fact = Fact::AllStopped {
            last: at("2025-12-02T01:10:02Z"),
            since: at("2025-12-02T01:15:00Z"),
            jobs: 2,
        };
        assert_eq!(cause.unwrap().evidence, [Evidence::Fact(fact)]);
    }
}

/// A task whose first line is that of the last jobs has run them itself.
#[test]
fn all_jobs_that_a_new_task_ran_once_are_held_back() {
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    let both = ["tidy:up", "orders:sync"];
    play.run(TASK, 1..70, &both)
        .run(NEXT_TASK, 70..72, &both)
        .run(NEXT_TASK, 72..150, &[]);
    let cause = cause_of(&play.told(120), "tidy:up");
    assert_eq!(id(&cause), "maintenance-or-pause");
}

/// Many are told as one, with what they share.
#[test]
fn many_jobs_that_stop_at_once_are_told_with_their_cause() {
    let names = ["job:1", "job:2", "job:3", "job:4"];
    let jobs = names.map(|name| TIDY.replace("tidy:up", name)).concat();
    let mut play = Play::new(&jobs);
    play.run(TASK, 1..72, &names).run(TASK, 72..150, &[]);
    let told = play.told(120);
    assert_eq!(told[0].job(), None);
    assert_eq!(told[0].cause_id(), "maintenance-or-pause");
}

#[test]
fn all_jobs_that_stop_for_another_reason_are_not_called_paused() {
    let both = format!("{TIDY}{SYNC}");
    // A filter of both may have closed at the full hour.
    let mut play = Play::new(&both);
    play.run(TASK, 1..60, &["tidy:up", "orders:sync"])
        .run(TASK, 60..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    // A new task may have another schedule.
    let mut play = Play::new(&both);
    play.run(TASK, 1..72, &["tidy:up", "orders:sync"])
        .run(NEXT_TASK, 72..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    let mut play = Play::new(&both);
    play.run(TASK, 1..72, &["tidy:up", "orders:sync"])
        .run(TASK, 72..150, &[])
        .run(NEXT_TASK, 73..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    // One job is not all; and a third, that nobody configured, goes on.
    let mut play = Play::new(TIDY);
    play.run(TASK, 1..72, &["tidy:up"]).run(TASK, 72..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    let mut play = Play::new(&both);
    play.run(TASK, 1..72, &["tidy:up", "orders:sync", "third"])
        .run(TASK, 72..150, &["third"]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    // It ran once more, at the very moment at which the others were due.
    let mut play = Play::new(&both);
    play.run(TASK, 1..72, &["tidy:up", "orders:sync", "third"]);
    play.stage
        .job_ended("third", minutes(75), SignedDuration::ZERO);
    play.run(TASK, 76..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
}

/// From a quarter of an hour before the last run on, an aborted run may be why.
#[test]
fn all_jobs_that_stop_around_an_aborted_run_are_not_called_paused() {
    // The last run is of minute 70, two seconds late, and the next is due in minute 75.
    for (minute, expected) in [
        (54, "maintenance-or-pause"),
        (55, "unknown"),
        (84, "unknown"),
    ] {
        let mut play = Play::new(&format!("{TIDY}{SYNC}"));
        play.run(TASK, 1..72, &["tidy:up", "orders:sync"])
            .line(TASK, minute, killed(), "boom")
            .run(TASK, 72..150, &[]);
        assert_eq!(
            id(&cause_of(&play.told(120), "tidy:up")),
            expected,
            "{minute}"
        );
    }
}

#[test]
fn what_the_log_says_of_a_pause_is_believed_until_jobs_run_again() {
    let paused = "INFO Application is now in maintenance mode.";
    let mut play = Play::new(TIDY);
    play.run(TASK, 1..72, &["tidy:up"])
        .line(TASK, 72, Kind::Held, paused)
        .run(TASK, 72..150, &[]);
    let cause = cause_of(&play.told(120), "tidy:up").unwrap();
    assert_eq!(cause, Cause::new("maintenance-or-pause", paused));
    // The newest such line is shown.
    let again = "INFO Application is already down.";
    let mut play = Play::new(TIDY);
    play.run(TASK, 1..72, &["tidy:up"])
        .line(TASK, 72, Kind::Held, paused)
        .line(TASK, 74, Kind::Held, again)
        .run(TASK, 72..150, &[]);
    let cause = cause_of(&play.told(120), "tidy:up").unwrap();
    assert_eq!(cause, Cause::new("maintenance-or-pause", again));
    // Released at once.
    let mut play = Play::new(TIDY);
    play.run(TASK, 1..72, &["tidy:up"])
        .line(TASK, 72, Kind::Held, paused)
        .line(TASK, 72, Kind::Released, "INFO  Application is now live.")
        .run(TASK, 72..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    // Released, or other jobs run: something else holds this one back.
    let mut play = Play::new(TIDY);
    play.run(TASK, 1..72, &["tidy:up"])
        .line(TASK, 72, Kind::Held, paused)
        .line(TASK, 73, Kind::Released, "INFO  Application is now live.")
        .run(TASK, 72..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    let mut play = Play::new(&format!("{TIDY}{SYNC}"));
    play.run(TASK, 1..72, &["tidy:up", "orders:sync"])
        .line(TASK, 72, Kind::Held, paused)
        .run(TASK, 72..150, &["orders:sync"]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
    // What the application says of a job is no run of the loop.
    let mut play = Play::new(TIDY);
    play.run(TASK, 1..72, &["tidy:up"])
        .line(TASK, 72, Kind::Held, paused)
        .run(TASK, 72..150, &[]);
    (play.stage).job_ended("queued", minutes(73), SignedDuration::ZERO);
    play.stage.lines.last_mut().unwrap().heartbeat = false;
    let cause = cause_of(&play.told(120), "tidy:up");
    assert_eq!(id(&cause), "maintenance-or-pause");
    // Of the same moment, the job may have come after it.
    let mut play = Play::new(TIDY);
    play.run(TASK, 1..72, &["tidy:up"])
        .line(TASK, 70, Kind::Held, paused)
        .run(TASK, 72..150, &[]);
    assert_eq!(id(&cause_of(&play.told(120), "tidy:up")), "unknown");
}

/// A Japanese application whose job ends with a date; the watchdog was told no window.
#[test]
fn a_job_that_stops_at_midnight_has_a_date_condition() {
    let midnight = 15 * 60;
    let tokyo = TIDY.to_owned() + "timezone = \"Asia/Tokyo\"\n" + SYNC;
    let goes_on = |task: &str, minute: i64, jobs: &str| {
        let mut play = Play::new(jobs);
        play.run(TASK, 1..minute, &["tidy:up", "orders:sync"]).run(
            task,
            minute..midnight + 120,
            &["orders:sync"],
        );
        cause_of(&play.told(midnight + 90), "tidy:up")
    };
    let stops_at = |minute: i64, jobs: &str| goes_on(TASK, minute, jobs);
    let cause = stops_at(midnight, &tokyo);
    assert_eq!(id(&cause), "date-condition");
    let fact = Fact::StoppedAtEdge {
        job: "tidy:up".to_owned(),
        last: at("2025-12-02T14:55:01Z"),
        edge: at("2025-12-02T15:00:00Z"),
    };
    assert_eq!(cause.unwrap().evidence, [Evidence::Fact(fact)]);
    // Any other time is no date's edge, nor is that one in another time zone ...
    assert_eq!(id(&stops_at(midnight + 25, &tokyo)), "unknown");
    let utc = format!("{TIDY}{SYNC}");
    assert_eq!(id(&stops_at(midnight, &utc)), "unknown");
    // ... unless the window that the watchdog was told ends on that day.
    let window =
        TIDY.to_owned() + "active = [{ from = \"2025-12-01\", until = \"2025-12-02\" }]\n" + SYNC;
    assert_eq!(id(&stops_at(midnight, &window)), "date-condition");
    // That day ends 14 hours earlier somewhere, and nowhere earlier than that.
    assert_eq!(id(&stops_at(10 * 60, &window)), "date-condition");
    assert_eq!(id(&stops_at(9 * 60, &window)), "unknown");
    // A new task may have another schedule, and a rare job meets a midnight by chance.
    assert_eq!(id(&goes_on(NEXT_TASK, midnight, &tokyo)), "unknown");
    let rare = tokyo.replacen("*/5", "*/20", 1);
    assert_eq!(id(&stops_at(midnight, &rare)), "unknown");
}

/// Nor has one that ran at midnight itself, of which a single run is missing so far, or after
/// which no job ran at all.
#[test]
fn a_job_that_stops_around_midnight_need_not_have_a_date_condition() {
    let midnight = 15 * 60;
    let tokyo = TIDY.to_owned() + "timezone = \"Asia/Tokyo\"\n";
    let play = |after: &[&str]| {
        let mut play = Play::new(&tokyo);
        play.run(TASK, 1..midnight, &["tidy:up", "orders:sync"])
            .run(TASK, midnight..midnight + 120, after);
        play
    };
    let told = play(&["orders:sync"]).told(midnight + 90);
    assert_eq!(told[0].cause_id(), "date-condition", "two are missing");
    let slow = tokyo.replacen("*/5", "*/15", 1);
    let mut slow = Play::new(&slow);
    slow.run(TASK, 1..midnight, &["tidy:up", "orders:sync"])
        .run(TASK, midnight..midnight + 120, &["orders:sync"]);
    let told = slow.told(midnight + 90);
    assert_eq!(told[0].cause_id(), "unknown", "one is missing");
    assert_eq!(id(&cause_of(&told, "tidy:up")), "date-condition");
    for job in ["tidy:up", "orders:sync"] {
        // At the very moment at which the job is due.
        let mut play = play(if job == "tidy:up" {
            &["orders:sync"]
        } else {
            &[]
        });
        (play.stage).job_ended(job, minutes(midnight), SignedDuration::ZERO);
        let cause = cause_of(&play.told(midnight + 90), "tidy:up");
        assert_eq!(id(&cause), "unknown", "{job} ran once more");
    }
}

#[test]
fn a_second_run_for_one_due_time_is_a_conflict() {
    let mut play = Play::new("[[scheduler.job]]\nname = \"tidy:up\"\ncron = \"*/5 * * * *\"\n");
    play.stage.ecs(|facts| {
        let mut second = facts.tasks[0].clone();
        second.id = NEXT_TASK.to_owned();
        facts.tasks.push(second);
        facts.desired = 2;
    });
    play.run(TASK, 1..60, &["tidy:up"])
        .run(NEXT_TASK, 1..60, &["tidy:up"]);
    play.stage.lines.sort_by_key(|line| line.at);
    let plans = play.stage.passes(10);
    let told: Vec<&Notification> = (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .filter(|told| told.condition == Condition::DuplicateRuns)
        .collect();
    assert_eq!(told.len(), 1, "{plans:?}");
    assert_eq!(told[0].causes[0].id, "one-server-conflict");
    let Evidence::Fact(Fact::Twice { streams, .. }) = &told[0].causes[0].evidence[0] else {
        panic!("it says on which streams");
    };
    assert_eq!(streams.len(), 2);
}

#[test]
fn an_exit_code_says_why_a_job_fails() {
    for (code, expected) in [
        (127, "code-missing"),
        (126, "permission-denied"),
        (137, "process-killed"),
        (255, "php-fatal"),
        (1, "unknown"),
        (143, "unknown"),
    ] {
        let mut play = Play::new(TIDY);
        for run in 1..12 {
            let kind = Kind::Job {
                name: "tidy:up".to_owned(),
                event: JobEvent::Failed {
                    took: Some(SignedDuration::from_millis(120)),
                    exit_code: Some(code),
                },
                background: false,
            };
            play.line(TASK, run * 5, kind, "tidy:up");
        }
        play.run(TASK, 1..60, &[]);
        play.stage.lines.sort_by_key(|line| line.at);
        let told: Vec<Notification> = (play.stage.passes(11).into_iter())
            .flat_map(|plan| plan.notifications)
            .filter(|told| told.condition == Condition::JobFailing)
            .collect();
        assert_eq!(told[0].cause_id(), expected, "{code}");
    }
}
