//! What keeps many jobs from running at once: all of them held back, or the loop busy with one.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use scheduler_watchdog::cause::Evidence;
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::Cure;
use scheduler_watchdog::line::{JobEvent, Kind, Preset, Pulse};
use scheduler_watchdog::plan::{Handling, Notification, Occasion, Plan};

use crate::stage::{Stage, TASK, at, minutes, seconds, told};

/// A job, how many minutes lie between its runs, and the minute of the first.
type Job<'a> = (&'a str, i64, i64);

const MONITOR: Job<'_> = ("redis:monitor", 5, 0);
const HELD: &str = "INFO  Application is now in maintenance mode.";
const SYNC: Job<'_> = ("orders:sync", 5, 0);

fn cron((_, every, first): Job<'_>) -> String {
    match every {
        1440 => format!("{} {} * * *", first % 60, first / 60),
        360 => format!("{} */6 * * *", first % 60),
        60 => format!("{first} * * * *"),
        _ => format!("*/{every} * * * *"),
    }
}

/// A loop from midnight on: each job runs when it is due, in the minutes that `runs` says, and in others
/// the loop finds nothing to do. It prints nothing in the minutes of `busy`.
fn play(
    jobs: &[Job<'_>],
    length: i64,
    busy: Range<i64>,
    runs: impl Fn(&str, i64) -> bool,
) -> Stage {
    let config: String = (jobs.iter())
        .map(|job| {
            let cron = cron(*job);
            format!(
                "[[scheduler.job]]\nname = \"{}\"\ncron = \"{cron}\"\n",
                job.0
            )
        })
        .collect();
    let mut stage = Stage::new(&config);
    stage.scheduler.remediation.action = Cure::None;
    stage.other_lines();
    for minute in (0..length).filter(|minute| !busy.contains(minute)) {
        let after = minutes(minute) + seconds(2);
        stage.push(TASK, after, Kind::Heartbeat(Pulse::Idle), "idle");
        for (name, every, first) in jobs {
            if minute % every == first % every && runs(name, minute) {
                stage.job_ended(name, after, SignedDuration::ZERO);
            }
        }
    }
    stage
}

/// The passes over the whole log.
fn passes(stage: &mut Stage) -> Vec<Plan> {
    stage.lines.sort_by_key(|line| line.at);
    let length = stage.lines.last().unwrap().at.duration_since(stage.now);
    stage.passes(usize::try_from(length.as_mins() / 5).unwrap())
}

/// What is told, reminders left aside: of which job, what, and in which minute.
fn story(plans: &[Plan]) -> Vec<(Option<&str>, Occasion)> {
    (told(plans).into_iter())
        .filter(|n| n.occasion != Occasion::Reminder)
        .map(|n| (n.job(), n.occasion))
        .collect()
}

fn all_clear(plans: &[Plan]) -> &Notification {
    let over = |n: &&Notification| n.occasion == Occasion::Resolved && n.job().is_none();
    told(plans).into_iter().find(over).unwrap()
}

/// The jobs that an all-clear says missed runs, with how many, and those that have not run since.
fn cost(all_clear: &Notification) -> (Vec<(&str, u32)>, Vec<&str>) {
    let (mut missed, mut not_since) = (Vec::new(), Vec::new());
    for fact in &all_clear.proof {
        match fact {
            Fact::MissedRuns { job, count, .. } => missed.push((job.as_str(), *count)),
            Fact::NotSince { jobs, .. } => not_since.extend(jobs.iter().map(String::as_str)),
            _ => {}
        }
    }
    (missed, not_since)
}

/// The runs that an all-clear says the loop waited for.
fn waited(all_clear: &Notification) -> Vec<(&str, Timestamp, Timestamp)> {
    let mut runs = Vec::new();
    for fact in &all_clear.proof {
        if let Fact::WaitedFor { job, from, until } = fact {
            runs.push((job.as_str(), *from, *until));
        }
    }
    runs
}

/// All are held back from 01:02 to 02:40. Each has another grace: that of `mails` is not over when jobs run
/// again, and `early` was due before any was known to be missing.
#[test]
fn all_jobs_that_are_held_back_are_one_incident_however_few_are_overdue() {
    let jobs = [
        MONITOR,
        ("imports", 10, 0),
        ("hourly", 60, 7),
        ("early", 1440, 63),
        ("reports", 1440, 70),
        ("mails", 1440, 120),
    ];
    let plans = passes(&mut play(&jobs, 420, 0..0, |_, minute| {
        !(62..160).contains(&minute)
    }));
    assert_eq!(
        story(&plans),
        [(None, Occasion::Opened), (None, Occasion::Resolved)]
    );
    assert_eq!(told(&plans)[0].cause_id(), "maintenance-or-pause");
    let all_clear = all_clear(&plans);
    assert_eq!(all_clear.until, Some(at("2025-12-02T02:40:02Z")));
    let (missed, not_since) = cost(all_clear);
    assert_eq!(
        missed,
        [
            ("early", 1),
            ("mails", 1),
            ("reports", 1),
            ("hourly", 2),
            ("imports", 9),
            ("redis:monitor", 19)
        ]
    );
    assert_eq!(not_since, ["early", "mails", "reports", "hourly"]);
    let next = |fact: &Fact| match fact {
        Fact::NotSince { next, .. } => *next,
        _ => None,
    };
    let next = all_clear.proof.iter().find_map(next);
    assert_eq!(next, Some(at("2025-12-02T03:07:00Z")));
}

/// Their lost runs are accounted for with this message: whoever does not read a name here never does.
#[test]
fn all_that_have_not_run_since_are_named() {
    let nightly = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let mut jobs = vec![MONITOR, SYNC];
    jobs.extend(nightly.map(|name| (name, 1440, 90)));
    let plans = passes(&mut play(&jobs, 300, 0..0, |_, minute| {
        !(62..160).contains(&minute)
    }));
    assert_eq!(
        story(&plans),
        [(None, Occasion::Opened), (None, Occasion::Resolved)]
    );
    assert_eq!(cost(all_clear(&plans)).1, nightly);
}

/// A fact is cut at its end, where it says how many more there are.
#[test]
fn of_jobs_with_long_names_as_many_are_named_as_there_is_room_for() {
    let names: Vec<String> = (10..22).map(|n| format!("{n}{}", "x".repeat(76))).collect();
    let mut jobs = vec![MONITOR, SYNC];
    jobs.extend(names.iter().map(|name| (name.as_str(), 1440, 90)));
    let plans = passes(&mut play(&jobs, 300, 0..0, |_, minute| {
        !(62..160).contains(&minute)
    }));
    let all_clear = all_clear(&plans);
    let more = |fact: &Fact| match fact {
        Fact::NotSince { more, .. } => Some(*more),
        _ => None,
    };
    assert_eq!(cost(all_clear).1.len(), 7);
    assert_eq!(all_clear.proof.iter().find_map(more), Some(5));
}

/// What held it back before is not what holds all back; nor does it count as a sign that jobs run again.
#[test]
fn a_job_that_was_overdue_before_all_were_held_back_keeps_its_incident() {
    for its_end in [110, 200] {
        let jobs = [MONITOR, SYNC, ("tidy:up", 5, 0)];
        let plans = passes(&mut play(&jobs, 240, 0..0, |name, minute| match name {
            "tidy:up" => !(20..its_end).contains(&minute),
            _ => !(62..160).contains(&minute),
        }));
        let mut expected = vec![
            (Some("tidy:up"), Occasion::Opened),
            (None, Occasion::Opened),
            (None, Occasion::Resolved),
            (Some("tidy:up"), Occasion::Resolved),
        ];
        if its_end < 160 {
            expected.swap(2, 3);
        }
        assert_eq!(story(&plans), expected, "{its_end}");
        let opened = told(&plans).into_iter().find(|n| n.job().is_none());
        let all_stopped = Fact::AllStopped {
            last: at("2025-12-02T01:00:02Z"),
            since: at("2025-12-02T01:05:00Z"),
            jobs: 2,
        };
        let cause = &opened.unwrap().causes[0];
        assert_eq!(cause.evidence, [Evidence::Fact(all_stopped)]);
        let all_clear = all_clear(&plans);
        assert_eq!(all_clear.again_since, None);
        let missed = [("orders:sync", 19), ("redis:monitor", 19)];
        assert_eq!(cost(all_clear).0, missed, "{its_end}");
    }
}

/// Who goes on missing when others run again is not held back on purpose, and is told alone: the all-clear
/// of the others says nothing of it.
#[test]
fn who_goes_on_missing_when_others_run_again_is_told_alone() {
    let three = ["orders:sync", "redis:monitor", "imports"];
    for stuck in [&three[..1], &three[..2], &three] {
        let jobs = [MONITOR, SYNC, ("imports", 5, 0), ("hourly", 60, 30)];
        let plans = passes(&mut play(&jobs, 420, 0..0, |name, minute| {
            let until = if stuck.contains(&name) { 260 } else { 150 };
            !(62..until).contains(&minute)
        }));
        let story = story(&plans);
        let about = [None].into_iter().chain(stuck.iter().map(|job| Some(*job)));
        for told in about.flat_map(|job| [(job, Occasion::Opened), (job, Occasion::Resolved)]) {
            assert!(story.contains(&told), "{told:?} {story:?}");
        }
        assert_eq!(story.len(), 2 + 2 * stuck.len(), "{story:?}");
        let all_clear = all_clear(&plans);
        assert_eq!(all_clear.again_since, None);
        assert_eq!(all_clear.until, Some(at("2025-12-02T02:30:02Z")));
        let missed: Vec<&str> = cost(all_clear).0.iter().map(|(job, _)| *job).collect();
        assert!(
            !missed.is_empty() && !stuck.iter().any(|job| missed.contains(job)),
            "{missed:?}"
        );
        let alone = told(&plans)
            .into_iter()
            .find(|n| n.job() == Some(stuck[0]))
            .unwrap();
        assert_eq!(alone.cause_id(), "unknown");
    }
}

/// More than three of them are not told one by one: that the cause was another one, or is over, is news.
#[test]
fn that_many_go_on_missing_when_others_run_again_changes_the_cause() {
    let stuck = ["a", "b", "c", "d"];
    let mut jobs = vec![MONITOR, ("nightly", 1440, 90)];
    jobs.extend(stuck.map(|name| (name, 5, 0)));
    let plans = passes(&mut play(&jobs, 420, 0..0, |name, minute| {
        let until = if stuck.contains(&name) { 260 } else { 150 };
        !(62..until).contains(&minute)
    }));
    let [opened, changed, resolved] = [Occasion::Opened, Occasion::Changed, Occasion::Resolved];
    assert_eq!(
        story(&plans),
        [(None, opened), (None, changed), (None, resolved)]
    );
    let causes: Vec<&str> = (told(&plans).iter())
        .filter(|n| n.occasion != Occasion::Reminder)
        .map(|n| n.cause_id())
        .collect();
    assert_eq!(causes, ["maintenance-or-pause", "unknown", "unknown"]);
    let (missed, not_since) = cost(all_clear(&plans));
    assert_eq!(missed[0], ("nightly", 1));
    assert_eq!(not_since, ["nightly"]);
}

/// It was due when jobs ran again, and the loop waits for it: "run it by hand" would run it twice.
#[test]
fn a_run_that_is_under_way_is_waited_for() {
    let jobs = [MONITOR, SYNC, ("reports", 60, 40)];
    let mut stage = play(&jobs, 300, 101..121, |name, minute| {
        !(20..100).contains(&minute) && (name, minute) != ("reports", 100)
    });
    stage.job_ended("reports", minutes(120) + seconds(2), minutes(20));
    stage.scheduler.jobs[2].max_runtime = Some(minutes(30));
    let plans = passes(&mut stage);
    assert_eq!(
        story(&plans),
        [(None, Occasion::Opened), (None, Occasion::Resolved)]
    );
    let all_clear = all_clear(&plans);
    assert_eq!(cost(all_clear).1, Vec::<&str>::new());
    assert!(
        all_clear.at > at("2025-12-02T02:00:00Z"),
        "{}",
        all_clear.at
    );
}

/// A run that began before jobs were held back prints its line when it ends.
#[test]
fn the_line_of_a_run_from_before_does_not_say_that_jobs_run() {
    let jobs = [MONITOR, SYNC];
    let mut stage = play(&jobs, 240, 61..66, |_, minute| !(60..160).contains(&minute));
    stage.push(TASK, minutes(62), Kind::Held, HELD);
    stage.lines.last_mut().unwrap().heartbeat = false;
    stage.job_ended("imports", minutes(65) + seconds(2), minutes(5));
    let plans = passes(&mut stage);
    assert_eq!(
        story(&plans),
        [(None, Occasion::Opened), (None, Occasion::Resolved)]
    );
    assert_eq!(told(&plans)[0].cause_id(), "maintenance-or-pause");
}

/// Jobs whose dates are over before they run again, more than are named one by one, and beside one that
/// does run.
#[test]
fn jobs_that_nobody_waits_for_any_more_do_not_run_again() {
    let campaigns = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let until_three = Stage::new(
        "[[scheduler.job]]\nname = \"x\"\ncron = \"10 * * * *\"\ntimezone = \"Etc/GMT+3\"\n\
         active = [{ until = \"2025-12-01\" }]",
    );
    let until_three = &until_three.scheduler.jobs[0];
    for (few, others, handling) in [
        (2, &[][..], Handling::NotDueAnyMore),
        (9, &[], Handling::NotDueAnyMore),
        (2, &[MONITOR], Handling::CameBack),
    ] {
        let jobs: Vec<Job<'_>> = (campaigns[..few].iter())
            .map(|name| (*name, 60, 10))
            .chain(others.iter().copied())
            .collect();
        let mut stage = play(&jobs, 360, 0..0, |name, minute| match name {
            "redis:monitor" => !(62..185).contains(&minute),
            _ => minute < 62,
        });
        stage.push(TASK, minutes(62), Kind::Held, HELD);
        for job in &mut stage.scheduler.jobs[..few] {
            job.active.clone_from(&until_three.active);
            job.timezone.clone_from(&until_three.timezone);
        }
        let plans = passes(&mut stage);
        assert_eq!(
            story(&plans),
            [(None, Occasion::Opened), (None, Occasion::Resolved)]
        );
        let all_clear = all_clear(&plans);
        assert_eq!(cost(all_clear).1, campaigns[..few]);
        assert_eq!(all_clear.handling, handling);
    }
}

/// Spans of minutes within three days.
fn spans(longest: i64) -> impl Strategy<Value = Vec<Range<i64>>> {
    let span = (30..3 * 1440i64, 1..longest).prop_map(|(start, length)| start..start + length);
    prop::collection::vec(span, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Each in one all-clear, whatever else there was: the loop's, one of many, or its own.
    #[test]
    fn whoever_holds_jobs_back_each_missed_run_is_told_once(
        all in spans(700),
        own in prop::array::uniform4(spans(900)),
        dead in spans(300),
        says_so in any::<bool>(),
    ) {
        let jobs = [MONITOR, ("hourly", 60, 7), ("sixth", 360, 40), ("daily", 1440, 190)];
        let within = |spans: &[Range<i64>], minute| spans.iter().any(|span| span.contains(&minute));
        let runs = |name: &str, minute| {
            let its = jobs.iter().position(|job| job.0 == name);
            let held = its.is_some_and(|its| within(&own[its], minute));
            !held && !within(&all, minute)
        };
        // After three wild days all run again, for long enough to be told.
        let end = 3 * 1440 + 900 + 2 * 1440;
        let mut stage = play(&jobs, end, 0..0, |name, minute| runs(name, minute) && !within(&dead, minute));
        for job in &mut stage.scheduler.jobs {
            job.grace = Some(minutes(5));
        }
        let start = stage.now;
        let minute = |at: Timestamp| at.duration_since(start).as_mins();
        let is_dead = |at| within(&dead, minute(at));
        stage.lines.retain(|line| !line.heartbeat || !is_dead(line.at));
        for span in all.iter().filter(|_| says_so) {
            for (at, kind) in [(span.start, Kind::Held), (span.end, Kind::Released)] {
                stage.push(TASK, minutes(at), kind, "said");
                stage.lines.last_mut().unwrap().heartbeat = false;
            }
        }
        stage.lines.sort_by_key(|line| line.at);
        let lines = std::mem::take(&mut stage.lines);
        let mut lines = lines.into_iter().peekable();
        let mut missed = BTreeMap::<String, u32>::new();
        for _ in 1..end / 5 {
            stage.wait(5);
            // Only what a window can hold, so that the test is quick.
            while let Some(line) = lines.next_if(|line| line.at <= stage.now) {
                stage.lines.push(line);
            }
            let old = stage.now - minutes(40);
            stage.lines.retain(|line| line.at >= old);
            let plan = stage.pass();
            for over in plan.notifications.iter().filter(|n| n.occasion == Occasion::Resolved) {
                for (job, count) in cost(over).0 {
                    *missed.entry(job.to_owned()).or_default() += count;
                }
            }
        }
        let open: Vec<_> = stage.state.incidents.iter().filter(|i| i.is_open()).collect();
        prop_assert!(open.is_empty(), "{open:?}");
        for (name, every, first) in jobs {
            let due = (6..end).filter(|minute| minute % every == first % every);
            let truth = due.filter(|due| !runs(name, *due) || within(&dead, *due)).count();
            let told = missed.get(name).map_or(0, |count| *count as usize);
            // Single runs of a job that runs again at once are not worth a message.
            prop_assert!(told == truth || (name == MONITOR.0 && told <= truth), "{name}: {told} of {truth}");
        }
    }
}

/// The loop is busy with a run from 01:00 on, right after another job of that minute, and its line comes
/// with its end; the silence that it causes is told.
fn busy_for(length: i64) -> Stage {
    let jobs = [("reports", 60, 0), MONITOR];
    let mut stage = play(&jobs, 420, 61..61 + length, |name, _| name != "reports");
    stage.scheduler.jobs[0].max_runtime = Some(minutes(10));
    stage
}

fn ran(stage: &mut Stage, due: i64, took: i64) {
    let end = minutes(due + took) + seconds(2);
    stage.job_ended("reports", end, minutes(took));
}

/// The loop prints nothing in these minutes.
fn quiet(stage: &mut Stage, span: Range<i64>) {
    let span = stage.now + minutes(span.start)..stage.now + minutes(span.end);
    stage
        .lines
        .retain(|line| !line.heartbeat || !span.contains(&line.at));
}

const REPORTS: Option<&str> = Some("reports");

/// Its length is told with the all-clear of the silence, and not again; that of the next one is.
#[test]
fn the_run_that_the_loop_waited_for_is_in_the_all_clear() {
    let mut stage = busy_for(50);
    for (due, took) in [(0, 0), (60, 50), (120, 1), (180, 1), (300, 1), (360, 1)] {
        ran(&mut stage, due, took);
    }
    quiet(&mut stage, 240..252);
    ran(&mut stage, 240, 12);
    let plans = passes(&mut stage);
    assert_eq!(
        story(&plans),
        [
            (None, Occasion::Opened),
            (None, Occasion::Resolved),
            (REPORTS, Occasion::Opened),
            (REPORTS, Occasion::Resolved)
        ]
    );
    assert_eq!(told(&plans)[0].condition, Condition::SchedulerSilent);
    let (from, until) = (at("2025-12-02T01:00:02Z"), at("2025-12-02T01:50:02Z"));
    assert_eq!(waited(all_clear(&plans)), [("reports", from, until)]);
}

/// A job of every five minutes has run again by then.
#[test]
fn the_run_that_the_loop_waited_for_is_told_although_the_job_ran_again() {
    let mut stage = busy_for(50);
    for due in (0..420)
        .filter(|due| *due == 60 || !(60..111).contains(due))
        .step_by(5)
    {
        ran(&mut stage, due, if due == 60 { 50 } else { 0 });
    }
    stage.scheduler.jobs[0].cron = stage.scheduler.jobs[1].cron.clone();
    let plans = passes(&mut stage);
    assert_eq!(
        story(&plans),
        [(None, Occasion::Opened), (None, Occasion::Resolved)]
    );
    assert_eq!(waited(all_clear(&plans)).len(), 1);
}

/// The run before took too long, and was told: it is not over with a run that took longer.
#[test]
fn an_overrun_that_is_told_goes_on_with_the_run_that_the_loop_waited_for() {
    let mut stage = busy_for(20);
    quiet(&mut stage, 0..12);
    for (due, took) in [
        (0, 12),
        (60, 20),
        (120, 1),
        (180, 1),
        (240, 1),
        (300, 1),
        (360, 1),
    ] {
        ran(&mut stage, due, took);
    }
    let plans = passes(&mut stage);
    assert_eq!(
        story(&plans),
        [
            (REPORTS, Occasion::Opened),
            (None, Occasion::Opened),
            (None, Occasion::Resolved),
            (REPORTS, Occasion::Resolved)
        ]
    );
    let over = told(&plans).pop().unwrap();
    assert!(over.at > at("2025-12-02T02:00:00Z"), "{}", over.at);
}

/// What is told of a run in the background comes when it ends; the loop did not wait for it.
#[test]
fn a_loop_does_not_wait_for_a_run_in_the_background() {
    let mut stage = busy_for(50);
    for (minute, event) in [
        (60, JobEvent::Started),
        (100, JobEvent::Ended { took: None }),
    ] {
        let is_start = event == JobEvent::Started;
        let kind = Kind::Job {
            name: "reports".to_owned(),
            event,
            background: true,
        };
        stage.push(TASK, minutes(minute) + seconds(2), kind, "reports");
        stage.lines.last_mut().unwrap().heartbeat = is_start;
    }
    let plans = passes(&mut stage);
    assert_eq!(waited(all_clear(&plans)), []);
}

/// A pause of the loop's own is no run that it waited for; nor is what only a record tells of, or a line
/// that a job has begun; nor does another scheduler wait.
#[test]
fn a_run_that_took_longer_than_a_pause_is_remembered() {
    let ended = |took| JobEvent::Ended {
        took: Some(seconds(took)),
    };
    for (event, own, preset, remembered) in [
        (ended(180), true, "laravel", 0),
        (ended(181), true, "laravel", 1),
        (ended(181), false, "laravel", 0),
        (JobEvent::Started, true, "laravel", 0),
        (ended(181), true, "supercronic", 0),
    ] {
        let mut stage = play(&[MONITOR], 60, 20..29, |_, _| true);
        stage.scheduler.preset = Preset::named(preset).unwrap();
        let kind = Kind::Job {
            name: "imports".to_owned(),
            event: event.clone(),
            background: false,
        };
        stage.push(TASK, minutes(24), kind, "imports");
        stage.lines.last_mut().unwrap().heartbeat = own;
        passes(&mut stage);
        let waited = stage.state.heartbeats.waited.len();
        assert_eq!(waited, remembered, "{event:?} {own} {preset}");
    }
}
