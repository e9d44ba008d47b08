use super::*;

/// A document that is too long is thinned out job by job until it fits, so that each has to say
/// whether there was anything to forget.
#[test]
fn a_job_is_thinned_out_once() {
    let at = Timestamp::UNIX_EPOCH;
    let whole = JobHistory {
        starts: vec![at, at + HOUR],
        plan: Some(7),
        due: Some(at + HOUR * 2),
        last_run: Some(LastRun {
            start: at,
            end: at,
            first: at,
            on: 1,
            seconds: None,
            only_report: false,
        }),
        cut: Some(CutRun {
            start: at,
            on: 1,
            killed: false,
            line: "Running".to_owned(),
        }),
        twice: Some(Twice {
            since: at,
            at,
            count: 1,
            on: [1, 2],
        }),
        ..JobHistory::default()
    };
    let least = JobHistory {
        starts: vec![at + HOUR],
        last_run: None,
        cut: None,
        twice: None,
        ..whole.clone()
    };
    for (name, mut history) in [
        (
            "the last run",
            JobHistory {
                last_run: whole.last_run.clone(),
                ..least.clone()
            },
        ),
        (
            "a run that was cut off",
            JobHistory {
                cut: whole.cut.clone(),
                ..least.clone()
            },
        ),
        (
            "runs on two streams",
            JobHistory {
                twice: whole.twice.clone(),
                ..least.clone()
            },
        ),
        (
            "an earlier start",
            JobHistory {
                starts: whole.starts.clone(),
                ..least.clone()
            },
        ),
        ("all of it", whole),
    ] {
        assert!(history.thin(), "{name}");
        assert_eq!(history, least, "{name}");
        assert!(!history.thin(), "{name}: nothing is left to forget");
    }
}
