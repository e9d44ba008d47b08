//! A silence: what excuses it, for how long, what is asked because of it, and what is shown.

use jiff::SignedDuration;
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::StaleAfter;
use scheduler_watchdog::history::JobHistory;
use scheduler_watchdog::judge::Silence;
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::plan::{Occasion, Plan, Reason, Verdict};
use scheduler_watchdog::snapshot::Observed;

use crate::stage::{
    SECOND_TASK, Stage, TASK, at, deployment, facts, falls_silent, minutes, replica_falls_silent,
    seconds, task, told,
};

const REPORTS: &str = r#"
    [[scheduler.job]]
    name = "reports"
    cron = "30 0 * * *"
    max_runtime = "20m"
"#;

fn verdicts(plans: &[Plan]) -> Vec<Verdict> {
    plans.iter().map(|plan| plan.verdict).collect()
}

// What excuses it

#[test]
fn a_job_that_has_ended_excuses_no_silence() {
    // Its end is the last line of all.
    let mut stage = falls_silent(REPORTS);
    stage.job_ended("reports", seconds(1), SignedDuration::from_millis(20));
    assert_eq!(
        verdicts(&stage.passes(2)),
        [Verdict::Healthy, Verdict::Firing]
    );
}

#[test]
fn a_job_that_the_loop_did_not_wait_for_excuses_no_silence() {
    let mut stage = falls_silent(REPORTS);
    let kind = Kind::Job {
        name: "reports".to_owned(),
        event: JobEvent::Started,
        background: true,
    };
    stage.push(TASK, seconds(1), kind, "reports");
    stage.push(TASK, minutes(1), Kind::Heartbeat(Pulse::Idle), "idle");
    assert_eq!(
        verdicts(&stage.passes(2)),
        [Verdict::Healthy, Verdict::Firing]
    );
}

/// A run may take twice as long as any before it, and one of which nothing is known until it is
/// due again; then a restart kills nothing any more.
#[test]
fn a_job_that_may_be_running_holds_a_restart_for_as_long_as_its_run_may_take() {
    let unknown = "[[scheduler.job]]\nname = \"reports\"\ncron = \"30 * * * *\"";
    // The last heartbeat is of 00:29; five minutes are allowed, and forty or sixty for the run.
    for (job, free_at) in [(REPORTS, 74), (unknown, 94)] {
        let mut stage = falls_silent(job);
        let mut first = None;
        for plan in stage.passes(15) {
            if plan.remediation.as_ref().is_some_and(|r| r.allowed()) {
                first.get_or_insert(plan.at);
            }
        }
        let midnight = Stage::new("").now;
        assert_eq!(first, Some(midnight + minutes(free_at + 1)), "{job}");
        for (before, held) in [(1, true), (0, false)] {
            let now = midnight + minutes(free_at) - seconds(before);
            let silence = Silence::of(&stage.scheduler, &stage.state, now);
            assert_eq!(!silence.running.is_empty(), held, "{before} s before");
        }
    }
}

/// The loop may live, and the job by which it was heard be held back. Of each job the first run in the
/// silence counts only, and none at all where the loop itself was heard every minute.
#[test]
fn a_job_that_is_due_just_now_holds_a_restart_of_a_loop_that_is_heard_by_its_jobs_alone() {
    for (every, due, allowed_at) in [(5, "12", 35), (5, "2,12", 25), (5, "40", 15), (1, "12", 15)] {
        let mut stage = Stage::new(&format!(
            "[[scheduler.job]]\nname = \"reports\"\ncron = \"{due} 1 * * *\"\nmax_runtime = \"10m\""
        ));
        stage.scheduler.stale_after = StaleAfter::Fixed(minutes(11));
        stage.other_lines();
        for minute in (0..=55).filter(|minute| minute % every == 0) {
            stage.job_ended("check", minutes(minute), SignedDuration::from_millis(20));
        }
        let plans = stage.passes(20);
        let allowed = (plans.iter())
            .find(|plan| plan.remediation.as_ref().is_some_and(|r| r.allowed()))
            .map(|plan| plan.at);
        let one = Stage::new("").now + minutes(60);
        assert_eq!(
            allowed,
            Some(one + minutes(allowed_at)),
            "{due}, every {every} min"
        );
    }
}

/// Both are shown, each once: who was due when the silence began, and who is due just now.
#[test]
fn all_jobs_that_may_be_running_are_shown() {
    let mut stage = Stage::new(
        r#"
        [[scheduler.job]]
        name = "slow"
        cron = "12,55 * * * *"
        max_runtime = "30m"
        [[scheduler.job]]
        name = "reports"
        cron = "12 1 * * *"
        max_runtime = "10m"
        "#,
    );
    stage.scheduler.stale_after = StaleAfter::Fixed(minutes(11));
    for minute in (0..=55).step_by(5) {
        stage.job_ended("check", minutes(minute), SignedDuration::from_millis(20));
    }
    let midnight = stage.now;
    let _ = stage.passes(15);
    // "reports" may take twice its time from 01:12 on.
    for (second, jobs) in [(-1, &["slow", "reports"][..]), (0, &["slow"])] {
        let now = midnight + minutes(92) + seconds(second);
        let silence = Silence::of(&stage.scheduler, &stage.state, now);
        let running: Vec<&str> = silence.running.iter().map(|run| run.job.as_str()).collect();
        assert_eq!(running, jobs);
    }
}

/// A line of a loop whose job begins every five minutes and tells no end.
fn begins_or_idles(stage: &mut Stage, minute: i64) {
    let kind = match minute % 5 {
        0 => Kind::Job {
            name: "check".to_owned(),
            event: JobEvent::Started,
            background: false,
        },
        _ => Kind::Heartbeat(Pulse::Idle),
    };
    stage.push(TASK, minutes(minute), kind, "a line");
}

/// Before Laravel 9.21 a job's line is of its start, and only the next line shows how long the loop waited
/// for it. That a job of every five minutes takes fifty is odd; the log may have had a hole.
#[test]
fn a_hole_in_the_log_after_a_frequent_job_excuses_no_later_silence() {
    let mut stage = Stage::new("[[scheduler.job]]\nname = \"check\"\ncron = \"*/5 * * * *\"");
    stage.other_lines();
    // Holes from 02:00 and from 06:00 on, and an end at 10:00.
    let holes = [(120, 170), (360, 400)];
    let last = 600;
    for minute in 0..=last {
        if holes
            .iter()
            .any(|(from, until)| (from + 1..*until).contains(&minute))
        {
            continue;
        }
        begins_or_idles(&mut stage, minute);
    }
    let midnight = stage.now;
    let plans = stage.passes(150);
    let first = |from: i64, tells: fn(&Plan) -> bool| {
        (plans.iter())
            .find(|plan| plan.at >= midnight + minutes(from) && tells(plan))
            .map(|plan| plan.at.duration_since(midnight).as_mins() - from)
    };
    let fires = |plan: &Plan| plan.verdict == Verdict::Firing;
    let restarts = |plan: &Plan| plan.remediation.as_ref().is_some_and(|r| r.allowed());
    assert_eq!(first(120, fires), Some(10));
    // The second silence is told as soon, but now a long run is feared.
    assert_eq!(first(360, fires), Some(10));
    assert_eq!(first(360, restarts).map(|after| after >= 240), Some(true));
    // A pause that has come twice is how the job is: five minutes are allowed, and 39 for its run.
    assert_eq!(first(last, fires), Some(45));
}

/// The hole and what is around it lie in the window of the first look.
#[test]
fn a_hole_in_the_log_of_the_first_look_excuses_no_later_silence() {
    let mut stage = Stage::new("[[scheduler.job]]\nname = \"check\"\ncron = \"*/5 * * * *\"");
    stage.other_lines();
    for minute in (0..30).filter(|minute| !(6..20).contains(minute)) {
        begins_or_idles(&mut stage, minute);
    }
    stage.wait(26).look();
    // The last line was the job's.
    stage.state.heartbeats.last = Some(stage.now - minutes(1));
    let silence = Silence::of(&stage.scheduler, &stage.state, stage.now + minutes(30));
    assert_eq!(silence.allowed, silence.stale_after);
}

/// Who prints after a job's start does not wait for it. In the very second of it that cannot be told.
#[test]
fn a_replica_that_went_on_after_a_jobs_start_does_not_wait_for_it() {
    use Verdict::{Firing, Healthy};
    for (second, expected) in [(1, [Healthy, Firing]), (2, [Healthy, Healthy])] {
        let mut stage = replica_falls_silent(REPORTS);
        let kind = Kind::Job {
            name: "reports".to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        stage.push(TASK, seconds(second), kind, "reports");
        let idle = Kind::Heartbeat(Pulse::Idle);
        stage.push(SECOND_TASK, seconds(2), idle, "idle");
        stage.lines.sort_by_key(|line| line.at);
        assert_eq!(
            verdicts(&stage.passes(2)),
            expected,
            "started at {second} s"
        );
    }
}

/// That all runs abort is told by a row of them: not by a single one, though hardly any silence is
/// allowed, nor by two at once.
#[test]
fn a_run_that_aborted_shows_that_the_loop_lives() {
    for aborts in [&[1][..], &[0, 1]] {
        let mut stage = falls_silent("");
        for minute in aborts {
            stage.abort(minutes(*minute), "Connection refused");
        }
        let plans = stage.passes(2);
        assert_eq!(verdicts(&plans), [Verdict::Healthy, Verdict::Firing]);
        assert_eq!(plans[0].reason, Reason::NotDueYet);
        assert_eq!(plans[1].conditions, [Condition::SchedulerSilent]);
    }
    let mut stage = falls_silent("");
    stage.scheduler.stale_after = StaleAfter::Fixed(minutes(1));
    stage.abort(minutes(1), "Connection refused");
    assert_eq!(stage.wait(2).pass().reason, Reason::NotDueYet);
}

/// The first and the last of the row lie a minute and a half less apart than a silence may last.
#[test]
fn a_row_of_aborted_runs_is_told_once_it_is_long_enough() {
    for (second, expected) in [(209, Verdict::Healthy), (210, Verdict::Firing)] {
        let mut stage = falls_silent("");
        stage.abort(seconds(0), "Connection refused");
        stage.abort(seconds(second), "Connection refused");
        assert_eq!(stage.wait(5).pass().verdict, expected, "{second} s");
    }
}

#[test]
fn a_heartbeat_of_the_last_two_minutes_is_fresh() {
    let mut stage = Stage::new("");
    stage.beats(TASK, 30);
    stage.passes(5);
    for (minute, reason) in [
        (29, Reason::HeartbeatFresh),
        (31, Reason::HeartbeatFresh),
        (32, Reason::NotDueYet),
    ] {
        stage.now = Stage::new("").now + minutes(minute);
        assert_eq!(stage.decide().0.reason, reason, "{minute}");
    }
}

#[test]
fn a_task_excuses_a_silence_until_its_time_to_start_is_over() {
    for (age, expected) in [(179, Verdict::Suspended), (180, Verdict::Firing)] {
        let mut stage = falls_silent("");
        stage.wait(5);
        let started = stage.now - seconds(age);
        stage.ecs(|facts| facts.tasks[0].started_at = Some(started));
        assert_eq!(stage.pass().verdict, expected, "{age} s");
    }
}

#[test]
fn a_deployment_goes_on_until_it_has_failed_or_is_the_only_one() {
    let now = Stage::new("").now;
    for (rollout, deployments, expected) in [
        ("IN_PROGRESS", 1, true),
        ("IN_PROGRESS", 2, true),
        ("COMPLETED", 1, false),
        ("COMPLETED", 2, true),
        ("FAILED", 1, false),
        ("FAILED", 2, false),
    ] {
        let mut facts = facts(&[TASK], now - minutes(60));
        facts.deployments[0].rollout = rollout.to_owned();
        if deployments == 2 {
            let old = deployment("ecs-svc/0", "COMPLETED", now - minutes(90));
            facts.deployments.push(old);
        }
        let goes_on = facts.deploying().is_some();
        assert_eq!(goes_on, expected, "{rollout}, {deployments}");
    }
}

/// A task that took another one's place and never speaks.
#[test]
fn a_replica_that_never_spoke_has_its_time_from_its_start_on() {
    let mut stage = replica_falls_silent("");
    let now = stage.now;
    stage.ecs(|f| {
        let deployment = f.deployments[0].id.clone();
        f.tasks[1] = task("third", &deployment, now);
    });
    // Three minutes to start, and five without a word.
    let plans = stage.passes(2);
    assert_eq!(verdicts(&plans), [Verdict::Healthy, Verdict::Firing]);
    assert_eq!(told(&plans)[0].subject.as_deref(), Some("third"));
}

// What is asked because of it

#[test]
fn two_replicas_that_live_need_no_further_evidence() {
    let mut stage = Stage::new("");
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
    stage.beats(TASK, 60);
    stage.beats(SECOND_TASK, 60);
    stage.passes(6);
    let snapshot = stage.snapshot();
    assert!(snapshot.probe.is_none() && snapshot.service.is_none());
    // One that is silent, for no longer than it may.
    let mut stage = replica_falls_silent("");
    for (second, asked) in [(240, false), (241, true)] {
        stage.now = Stage::new("").now + minutes(30) + seconds(second);
        assert_eq!(stage.snapshot().service.is_some(), asked, "{second} s");
    }
}

#[test]
fn a_loop_that_waits_for_a_job_needs_no_further_evidence() {
    let mut stage = falls_silent(REPORTS);
    let snapshot = stage.wait(10).snapshot();
    assert!(snapshot.probe.is_none() && snapshot.service.is_none());
}

#[test]
fn trouble_that_is_not_of_the_loop_needs_no_answer_of_ecs() {
    let mut stage = falls_silent("");
    stage.beats(TASK, 60);
    for n in 0..10 {
        stage.error(seconds(n * 20), "SQLSTATE[42S02]");
    }
    let plans = stage.passes(1);
    assert_eq!(told(&plans)[0].condition, Condition::ErrorSpike);
    assert!(stage.wait(5).snapshot().service.is_none());
}

#[test]
fn a_loop_that_comes_back_is_watched_in_ecs_until_it_is_over() {
    let mut stage = falls_silent("");
    stage.passes(1);
    stage.beats(TASK, 60);
    stage.wait(5);
    assert!(stage.snapshot().service.is_some(), "it recovers");
    stage.look();
    stage.passes(2);
    assert!(stage.snapshot().service.is_none(), "it is over");
}

// What is shown

/// What took the tasks down may have been printed just before the last sign of life.
#[test]
fn an_error_just_before_the_last_heartbeat_is_why_no_task_runs() {
    let fatal = "PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried to allocate 20480 bytes)";
    for (before, cause) in [(100, "php-memory"), (200, "unknown")] {
        let mut stage = Stage::new("");
        stage.other_lines();
        stage.beats(TASK, 30);
        stage.abort(minutes(29) - seconds(before), fatal);
        stage.ecs(|facts| facts.tasks.clear());
        let plans = stage.passes(7);
        let told = told(&plans);
        assert_eq!(told[0].condition, Condition::ServiceDown);
        assert_eq!(told[0].cause_id(), cause, "{before} s before");
    }
}

#[test]
fn a_spike_shows_its_newest_errors_and_a_silence_none_of_the_application() {
    let shown = |plans: &[Plan]| -> Vec<String> {
        let proof = &told(plans)[0].proof;
        (proof.iter())
            .find_map(|fact| match fact {
                Fact::LastErrors { lines } => Some(lines.clone()),
                _ => None,
            })
            .unwrap_or_default()
    };
    let mut stage = falls_silent("");
    stage.beats(TASK, 30);
    for n in 0..10 {
        stage.error(seconds(n * 20), "nothing known");
    }
    assert_eq!(shown(&stage.passes(1)), ["nothing known"]);
    let mut stage = falls_silent("");
    stage.error(seconds(-30), "nothing known");
    let plans = stage.passes(1);
    assert_eq!(told(&plans)[0].condition, Condition::SchedulerSilent);
    assert_eq!(shown(&plans), Vec::<String>::new());
}

/// Thrice as many as usual are not enough; more are.
#[test]
fn a_spike_is_more_than_thrice_what_is_usual() {
    let mut stage = Stage::new("");
    stage.beats(TASK, 8 * 60);
    // Ten in five minutes, for seven hours.
    for n in 0..(7 * 60 * 2) {
        stage.error(seconds(n * 30), "the usual noise");
    }
    stage.passes(7 * 12);
    let (usual, now, lines) = (stage.state.clone(), stage.now, stage.lines.len());
    for (errors, spike) in [(29, false), (30, false), (31, true)] {
        (stage.state, stage.now) = (usual.clone(), now);
        stage.lines.truncate(lines);
        // All of them in the last minute, and none of the noise within five minutes before.
        for n in 0..errors {
            stage.error(minutes(4) + seconds(n), "more of it");
        }
        let plan = stage.wait(5).pass();
        assert_eq!(i64::from(plan.errors), errors);
        let found = plan.conditions.contains(&Condition::ErrorSpike);
        assert_eq!(found, spike, "{errors}: {plan}");
        let opened = plan.notifications.iter();
        let opened = opened.filter(|n| n.occasion == Occasion::Opened);
        assert_eq!(opened.count() == 1, spike, "{errors}");
    }
}

/// Laravel runs a job of half past one again when the clock shows that a second time, and a job of every
/// hour runs in both hours.
#[test]
fn a_job_may_be_running_in_the_hour_that_the_clock_repeats() {
    for cron in ["10 1 * * *", "10 * * * *"] {
        let mut stage = Stage::new(&format!(
            "[[scheduler.job]]\nname = \"report\"\ncron = \"{cron}\"\nmax_runtime = \"45m\"\n\
             timezone = \"America/New_York\""
        ));
        // Ten past one comes at 05:10 and at 06:10.
        stage.now = at("2025-11-02T05:40:00Z");
        stage.other_lines();
        stage.beats(TASK, 30);
        stage.passes(6);
        let plan = stage.passes(3).pop().unwrap();
        assert_eq!(plan.verdict, Verdict::Healthy, "{cron} {plan}");
        assert_eq!(
            plan.allowed_silence,
            SignedDuration::from_mins(50),
            "{cron}"
        );
    }
}

/// Before Laravel 9.21 a job's line tells that it begins. Where nobody knows how long it takes, the loop
/// may wait for it, and is not restarted; a loop that went on at once after it before does not.
#[test]
fn the_first_start_of_a_job_holds_a_restart() {
    let start = |stage: &mut Stage, minute: i64| {
        let kind = Kind::Job {
            name: "big".to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        stage.push(TASK, minutes(minute), kind, "big");
    };
    for (before, held) in [(None, true), (Some(20), false)] {
        let mut stage = Stage::new("");
        stage.other_lines();
        stage.beats(TASK, 29);
        before
            .into_iter()
            .for_each(|minute| start(&mut stage, minute));
        // After two minutes it went on: that is no long time.
        let after = stage.now + minutes(21);
        stage
            .lines
            .retain(|line| before.is_none() || line.at != after);
        start(&mut stage, 29);
        stage.lines.sort_by_key(|line| line.at);
        // An hour of silence, and then again.
        for after in [0, 120] {
            let allowed = |plan: &Plan| plan.remediation.as_ref().is_some_and(|r| r.allowed());
            let plans = stage.passes(18);
            assert_eq!(plans.iter().any(allowed), !held, "{before:?} {after}");
            let told: Vec<Occasion> = told(&plans).iter().map(|told| told.occasion).collect();
            assert!(told.contains(&Occasion::Opened), "{told:?}");
            if !held {
                break;
            }
            stage.beats(TASK, 29);
            start(&mut stage, 29);
        }
    }
}

/// Of a job whose runs were seen before it is known how long they take.
#[test]
fn the_first_start_in_a_stream_of_a_job_that_is_known_holds_no_restart_for_hours() {
    let mut stage = Stage::new("");
    stage.other_lines();
    stage.beats(TASK, 29);
    let known = JobHistory {
        longest_seconds: Some(120),
        ..JobHistory::default()
    };
    stage.state.jobs.insert("big".to_owned(), known);
    let kind = Kind::Job {
        name: "big".to_owned(),
        event: JobEvent::Started,
        background: false,
    };
    stage.push(TASK, minutes(29), kind, "big");
    let plans = stage.passes(10);
    let allowed = |plan: &Plan| plan.remediation.as_ref().is_some_and(|r| r.allowed());
    assert!(plans.iter().any(allowed), "{:?}", plans.last());
}

/// Tasks that are replaced every few minutes excuse a silence for half an hour at most. The newest of them
/// may be about to start its scheduler still.
#[test]
fn a_task_within_its_grace_is_not_said_to_have_started_nothing() {
    for (age, expected) in [(2, "unknown"), (4, "not-started")] {
        let mut stage = falls_silent("");
        let boot = stage.now - minutes(40);
        stage.state.heartbeats.booted_at = Some(boot);
        stage.state.excused_since = Some(boot);
        let young = stage.now + minutes(5 - age);
        stage.ecs(|facts| facts.tasks = vec![task("1f2e3d4c", "ecs-svc/1", young)]);
        let plan = stage.wait(5).pass();
        let told = told(std::slice::from_ref(&plan));
        assert_eq!(told[0].condition, Condition::SchedulerSilent);
        assert_eq!(told[0].cause_id(), expected, "{age} min");
    }
}
