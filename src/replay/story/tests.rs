use super::*;
use crate::config::Config;
use crate::line::JobEvent;
use crate::plan::Plan;
use crate::silence::Quiet;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hour() -> Axis {
    Axis {
        from: time("2026-11-24T03:00:00Z"),
        until: time("2026-11-24T04:00:00Z"),
    }
}

fn minute(number: i64) -> Timestamp {
    hour().from + SignedDuration::from_mins(number)
}

fn config() -> Config {
    let text = r#"
[[scheduler]]
name = "web"
log_groups = ["/ecs/web"]

[[scheduler.job]]
name = "report:send"
cron = "*/10 * * * *"
grace = "2m"

[[scheduler.silence]]
cron = "30 3 * * *"
duration = "10m"
reason = "backup"
"#;
    Config::parse(text, "watchdog.toml").unwrap()
}

#[test]
fn bins_hold_what_lies_in_the_span() {
    let (axis, mut bins) = (hour(), Bins::default());
    for at in [
        axis.from,
        axis.from + SignedDuration::from_secs(5),
        axis.from + SignedDuration::from_secs(6),
        axis.until,
        axis.from - SignedDuration::from_millis(1),
        axis.until + SignedDuration::from_millis(1),
    ] {
        bins.add(&axis, at);
    }
    assert_eq!((bins.0[0], bins.0[1], bins.0[COLUMNS - 1]), (2, 1, 1));
    assert_eq!(bins.0.iter().sum::<u32>(), 4);
    assert_eq!(
        bins.stretches(),
        [(0, 2, 3), (COLUMNS - 1, COLUMNS, 1)],
        "neighbours are one"
    );
    assert_eq!(axis.begin(0, COLUMNS), axis.from);
    assert_eq!(axis.begin(COLUMNS, COLUMNS), axis.until);
    let moment = Axis {
        until: axis.from,
        ..axis
    };
    bins.add(&moment, axis.from);
    assert_eq!(bins.0[0], 3, "a span without length has one place");
}

fn chapter() -> Chapter {
    Chapter::new(&config().schedulers[0], &hour())
}

#[test]
fn consecutive_passes_are_one_episode() {
    let mut chapter = chapter();
    let withheld = |subject: &str, why: Withholding| Withheld {
        condition: Condition::JobOverdue,
        subject: Some(subject.to_owned()),
        why,
    };
    let silenced = |until| {
        Withholding::Silenced(Quiet {
            until: minute(until),
            reason: "backup".to_owned(),
        })
    };
    for (pass, subject, why) in [
        (1, "a", Withholding::SecondLook),
        (1, "b", Withholding::SecondLook),
        (2, "a", Withholding::SecondLook),
        // Another kind of reason.
        (3, "a", silenced(30)),
        // The same one, with another end.
        (4, "a", silenced(35)),
        // A pass without it lies between.
        (6, "a", silenced(35)),
    ] {
        let at = minute(i64::try_from(pass).unwrap());
        chapter.withheld(&withheld(subject, why), at, pass);
    }
    let brief: Vec<String> = (chapter.episodes.iter())
        .map(|e| {
            let passes = e.last.duration_since(e.first).as_mins() + 1;
            assert_eq!(i64::from(e.passes), passes);
            format!("{} {}: {passes}", e.subject.as_deref().unwrap(), e.why)
        })
        .collect();
    assert_eq!(
        brief,
        [
            "a the next look decides: 2",
            "b the next look decides: 1",
            "a silenced: backup: 2",
            "a silenced: backup: 1",
        ]
    );
}

#[test]
fn passes_without_a_verdict_are_one_span() {
    let mut chapter = chapter();
    let every = SignedDuration::from_mins(5);
    let report = |verdict, reason| SchedulerReport {
        plan: Some(Plan {
            scheduler: "web".to_owned(),
            at: minute(0),
            verdict,
            reason,
            conditions: Vec::new(),
            silent_for: None,
            allowed_silence: every,
            errors: 0,
            notifications: Vec::new(),
            withheld: Vec::new(),
            remediation: None,
        }),
        ..SchedulerReport::default()
    };
    let off = report(Verdict::Suspended, Reason::DesiredCountZero);
    let fine = report(Verdict::Healthy, Reason::HeartbeatFresh);
    for (at, report) in [(0, &fine), (5, &off), (10, &off), (15, &fine), (20, &off)] {
        chapter.stood(report, minute(at), every);
    }
    chapter.stood(&SchedulerReport::default(), minute(25), every);
    let spans: Vec<_> = (chapter.standing.iter())
        .map(|s| (s.verdict, s.span.from, s.span.until, s.off))
        .collect();
    assert_eq!(
        spans,
        [
            (Verdict::Suspended, minute(5), minute(15), true),
            (Verdict::Suspended, minute(20), minute(25), true),
            (Verdict::Unknown, minute(25), minute(30), false),
        ]
    );
}

#[test]
fn silences_are_those_of_the_span() {
    let silences = chapter().silences;
    assert_eq!(
        silences,
        [Span {
            from: minute(30),
            until: minute(40),
            label: "silence: backup".to_owned()
        }]
    );
}

fn line(at: Timestamp, event: JobEvent) -> Line {
    let kind = Kind::Job {
        name: "report:send".to_owned(),
        event,
        background: false,
    };
    Line::new(at, "s".into(), kind, "report:send")
}

fn ended(at: Timestamp, took: Option<i64>) -> Line {
    let took = took.map(SignedDuration::from_secs);
    line(at, JobEvent::Ended { took })
}

fn failed(at: Timestamp) -> Line {
    line(
        at,
        JobEvent::Failed {
            took: None,
            exit_code: Some(1),
        },
    )
}

/// What became of the runs of an hour of a job that is due every ten minutes, in the order of
/// [`Fate::ALL`].
fn fates(chapter: &mut Chapter, heard_from: i64, lines: &[Line]) -> [u64; 5] {
    let (config, axis) = (config(), hour());
    let mut listener = chapter.listen(&config.schedulers[0], &axis, minute(heard_from));
    listener.hear(lines, axis.until);
    listener.end();
    chapter.lanes[0].counts
}

#[test]
fn runs_answer_the_due_times() {
    let second = SignedDuration::from_secs(1);
    let lines = [
        ended(minute(0) + second, None),
        // A start and its end are one run, and it began a little early.
        line(minute(10) - second, JobEvent::Started),
        ended(minute(12), None),
        // The line of a failure beside that of its run.
        failed(minute(20) + second),
        ended(minute(20) + second, Some(0)),
        // Late by more than the grace: the due time was missed, the run answers nothing.
        ended(minute(33), None),
        // It took a minute, so it began in time; a second run does not answer it again.
        ended(minute(40) + second * 62, Some(60)),
        ended(minute(41) + second * 30, None),
        // Another server ran it: nothing is known.
        line(minute(45), JobEvent::Skipped),
    ];
    // Due at 0, 10, 20, 30, 40 and 50; at 60 too, but its grace is not over.
    assert_eq!(fates(&mut chapter(), 0, &lines), [3, 1, 2, 0, 2]);
}

#[test]
fn a_job_in_the_background_fails_when_its_report_says_so() {
    let spawned = |at| {
        let kind = Kind::Job {
            name: "report:send".to_owned(),
            event: JobEvent::Ended {
                took: Some(SignedDuration::ZERO),
            },
            background: true,
        };
        Line::new(at, "s".into(), kind, "report:send")
    };
    let report = |at, event| Line {
        heartbeat: false,
        ..line(at, event)
    };
    let success = JobEvent::Succeeded { took: None };
    let failure = JobEvent::Failed {
        took: None,
        exit_code: Some(1),
    };
    let lines = [
        spawned(minute(0)),
        report(minute(4), success.clone()),
        spawned(minute(10)),
        report(minute(14), failure),
        spawned(minute(20)),
        // It tells of no run that did not tell of itself.
        report(minute(31), success),
    ];
    assert_eq!(fates(&mut chapter(), 0, &lines), [2, 1, 3, 0, 0]);
}

#[test]
fn runs_that_nobody_can_expect_are_not_missed() {
    let none: [u64; 5] = [0; 5];
    assert_eq!(fates(&mut chapter(), 59, &[]), none);
    let mut off = chapter();
    off.standing.push(Standing {
        verdict: Verdict::Suspended,
        span: Span {
            from: minute(0),
            until: minute(30),
            label: String::new(),
        },
        off: true,
    });
    assert_eq!(fates(&mut off, 0, &[]), [0, 0, 3, 0, 0]);
    let mut down = chapter();
    down.incidents.push(Incident {
        id: "i".to_owned(),
        conditions: vec![Condition::SchedulerSilent],
        slot: Slot::Loop,
        subject: None,
        job: None,
        severity: Severity::Critical,
        cause: "unknown".to_owned(),
        since: minute(5),
        told_at: minute(10),
        until: Some(minute(35)),
    });
    assert_eq!(fates(&mut down, 0, &[]), [0, 0, 3, 3, 0]);
}

#[test]
fn runs_are_the_same_in_one_piece_and_in_many() {
    let (config, axis) = (
        config(),
        Axis {
            until: hour().from + SignedDuration::from_hours(72),
            ..hour()
        },
    );
    let scheduler = &config.schedulers[0];
    let lines: Vec<Line> = (0..72 * 6)
        .filter(|number| number % 7 != 0)
        .map(|number| ended(minute(number * 10 + number % 5), Some(30)))
        .collect();
    let read = |pieces: usize| {
        let mut chapter = Chapter::new(scheduler, &axis);
        let mut listener = chapter.listen(scheduler, &axis, axis.from);
        for piece in lines.chunks(lines.len().div_ceil(pieces)) {
            listener.hear(piece, piece.last().unwrap().at);
        }
        listener.end();
        (chapter.lanes, chapter.gaps, chapter.beats)
    };
    assert_eq!(read(1), read(9));
    assert!(read(1).0[0].counts.iter().sum::<u64>() > 400);
}

#[test]
fn gaps_begin_and_end_with_heartbeats_or_with_the_span() {
    let mut chapter = chapter();
    chapter.gap_from = SignedDuration::from_mins(9);
    let lines = [10, 19, 29, 40].map(|at| ended(minute(at), None));
    fates(&mut chapter, 0, &lines);
    let gaps: Vec<_> = (chapter.gaps.iter()).map(|g| (g.from, g.until)).collect();
    assert_eq!(
        gaps,
        [(0, 10), (19, 29), (29, 40), (40, 60)].map(|(a, b)| (minute(a), minute(b)))
    );
}
