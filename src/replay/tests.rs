use super::*;
use crate::line::LogEvent;
use crate::local::Builder;
use crate::local::log::Entry;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn world(times: &[&str]) -> LocalWorld {
    let mut builder = Builder::new([]);
    for at in times {
        builder.add(Entry {
            event: LogEvent {
                at: time(at),
                ingested: None,
                stream: "s".into(),
                id: None,
                message: "x".to_owned(),
            },
            named: true,
            copies: true,
        });
    }
    LocalWorld::new(builder.build(), None)
}

fn options(from: Option<&str>, until: Option<&str>, minutes: i64) -> Options {
    Options {
        from: from.map(time),
        until: until.map(time),
        every: SignedDuration::from_mins(minutes),
        format: Format::Text,
        all: false,
    }
}

fn times(world: &LocalWorld, options: &Options) -> Vec<String> {
    let schedule = Schedule::new(world, options).unwrap();
    let times: Vec<String> = schedule.times().map(|at| at.to_string()).collect();
    assert_eq!(schedule.passes(), times.len() as u64);
    times
}

#[test]
fn by_default_from_the_first_event_to_the_first_pass_that_sees_the_last() {
    let world = world(&["2026-11-24T03:36:09.5Z", "2026-11-24T03:41:00.001Z"]);
    let seen = times(&world, &options(None, None, 5));
    assert_eq!(seen, ["2026-11-24T03:37:00Z", "2026-11-24T03:42:00Z"]);
    let until = options(None, Some("2026-11-24T03:51:59Z"), 5);
    assert_eq!(
        times(&world, &until).last().unwrap(),
        "2026-11-24T03:47:00Z"
    );
    let from = options(Some("2026-11-24T03:31:00Z"), None, 5);
    assert_eq!(
        times(&world, &from),
        [
            "2026-11-24T03:31:00Z",
            "2026-11-24T03:36:00Z",
            "2026-11-24T03:41:00Z",
            "2026-11-24T03:46:00Z"
        ]
    );
    // All events can be older than the first pass.
    let later = options(Some("2026-11-24T05:00:00Z"), None, 5);
    assert_eq!(times(&world, &later), ["2026-11-24T05:00:00Z"]);
}

#[test]
fn a_whole_minute_stays() {
    let world = world(&["2026-11-24T03:36:00Z"]);
    assert_eq!(
        times(&world, &options(None, None, 5)),
        ["2026-11-24T03:36:00Z"]
    );
}

#[test]
fn spans_that_are_none() {
    let some = world(&["2026-11-24T03:36:00Z"]);
    let error = |world: &LocalWorld, options| Schedule::new(world, &options).unwrap_err();
    let (from, until) = (Some("2026-11-24T03:00:00Z"), Some("2026-11-24T02:00:00Z"));
    assert!(matches!(
        error(&some, options(from, until, 5)),
        ReplayError::Backwards { .. }
    ));
    assert!(matches!(
        error(&some, options(None, None, 0)),
        ReplayError::Interval
    ));
    assert!(matches!(
        error(&world(&[]), options(from, None, 5)),
        ReplayError::NoEvents
    ));
    assert!(matches!(
        error(&world(&[]), options(None, until, 5)),
        ReplayError::NoEvents
    ));
    let long = (Some("2012-01-01T00:00:00Z"), Some("2026-11-24T00:00:00Z"));
    assert!(matches!(
        error(&some, options(long.0, long.1, 1)),
        ReplayError::TooMany { .. }
    ));
    Schedule::new(&some, &options(long.0, long.1, 5)).unwrap();
    // However few the passes: a page looks at each run that was due. The epoch is no time of a line.
    let ages = world(&["1970-01-01T00:00:00Z", "2026-11-24T03:36:00Z"]);
    assert!(matches!(
        error(&ages, options(None, None, 60_000_000)),
        ReplayError::TooLong { .. }
    ));
    assert_eq!(times(&world(&[]), &options(until, from, 60)).len(), 2);
}

#[test]
fn a_decision_about_a_restart_is_told_once() {
    let remediation = |attempt, gates: &[Gate]| Remediation {
        incident: "i".to_owned(),
        cure: CureKind::ForceNewDeployment,
        task: None,
        attempt,
        token: String::new(),
        blocked_by: gates.to_vec(),
    };
    let mut known = Remediations::default();
    let mut is_news =
        |scheduler: &str, remediation: Remediation| known.is_news(scheduler, &remediation);
    assert!(is_news("a", remediation(1, &[Gate::TooEarly, Gate::Storm])));
    assert!(!is_news(
        "a",
        remediation(1, &[Gate::Storm, Gate::TooEarly])
    ));
    assert!(is_news("b", remediation(1, &[Gate::Storm, Gate::TooEarly])));
    assert!(is_news("a", remediation(1, &[Gate::Storm])));
    assert!(is_news("a", remediation(1, &[])));
    assert!(!is_news("a", remediation(1, &[])));
    assert!(is_news("a", remediation(2, &[])));
}
