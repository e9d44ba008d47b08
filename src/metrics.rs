//! A pass's figures as CloudWatch metrics: lines of the embedded metric format on stdout, which
//! CloudWatch Logs turns into metrics without an API call.

use serde_json::{Value, json};

use crate::pass::{Report, SchedulerReport};

/// The namespace of all metrics; the template's alarms name it, too.
pub const NAMESPACE: &str = "SchedulerWatchdog";

/// One line for each scheduler that this pass judged before any other, and one for the pass.
///
/// Per scheduler (dimension `Scheduler`): `SecondsSinceHeartbeat` (left out while it cannot be
/// known), `Errors`, `OpenIncidents`, `BytesScanned`. For the pass (dimension `FunctionName`):
/// `PassCompleted` (1 if everything was looked at and done, else 0), `Problems`,
/// `OldestUndeliveredMessage` (its age in seconds; 0 if no message waits). Each metric costs: what
/// no alarm needs by scheduler is counted once.
pub fn lines(report: &Report, function: &str) -> Vec<Value> {
    let millis = report.at.as_millisecond();
    let mut lines: Vec<Value> = (report.schedulers.iter())
        .filter_map(|scheduler| scheduler_line(scheduler, millis))
        .collect();
    let problems = (report.schedulers.iter())
        .map(|s| s.problems.len())
        .sum::<usize>();
    lines.push(line(
        millis,
        &[("FunctionName", function)],
        &[
            (
                "PassCompleted",
                "Count",
                Some(i64::from(report.is_complete())),
            ),
            (
                "Problems",
                "Count",
                i64::try_from(problems + report.problems.len()).ok(),
            ),
            (
                "OldestUndeliveredMessage",
                "Seconds",
                Some(
                    (report.undelivered_since())
                        .map_or(0, |since| report.at.duration_since(since).as_secs().max(0)),
                ),
            ),
        ],
    ));
    lines
}

fn scheduler_line(scheduler: &SchedulerReport, millis: i64) -> Option<Value> {
    // The pass that was first tells the figures of both.
    let plan = (scheduler.plan.as_ref()).filter(|_| !scheduler.superseded)?;
    Some(line(
        millis,
        &[("Scheduler", &scheduler.name)],
        &[
            (
                "SecondsSinceHeartbeat",
                "Seconds",
                plan.silent_for.map(|silent| silent.as_secs()),
            ),
            ("Errors", "Count", Some(i64::from(plan.errors))),
            (
                "OpenIncidents",
                "Count",
                Some(i64::from(scheduler.open_incidents)),
            ),
            (
                "BytesScanned",
                "Bytes",
                i64::try_from(scheduler.scanned_bytes).ok(),
            ),
        ],
    ))
}

/// One line of the format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
fn line(millis: i64, dimensions: &[(&str, &str)], metrics: &[(&str, &str, Option<i64>)]) -> Value {
    let known: Vec<_> = metrics
        .iter()
        .filter(|(_, _, value)| value.is_some())
        .collect();
    let names: Vec<Value> = (known.iter())
        .map(|(name, unit, _)| json!({"Name": name, "Unit": unit}))
        .collect();
    let keys: Vec<&str> = dimensions.iter().map(|(key, _)| *key).collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": millis,
            "CloudWatchMetrics": [
                {"Namespace": NAMESPACE, "Dimensions": [keys], "Metrics": names}
            ],
        },
    });
    for (key, value) in dimensions {
        line[*key] = Value::from(*value);
    }
    for (name, _, value) in known {
        line[*name] = Value::from(*value);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_the_oldest_message_that_waits_is_told_for_all_schedulers() {
        let at: jiff::Timestamp = "2026-11-24T04:00:00Z".parse().unwrap();
        let scheduler = |minutes: Option<i64>, superseded| SchedulerReport {
            undelivered_since: minutes.map(|ago| at - jiff::SignedDuration::from_mins(ago)),
            superseded,
            ..SchedulerReport::default()
        };
        let age = |schedulers| {
            let report = Report {
                at,
                schedulers,
                ..Report::default()
            };
            let lines = lines(&report, "watchdog");
            lines.last().unwrap()["OldestUndeliveredMessage"].clone()
        };
        assert_eq!(age(vec![]), 0);
        assert_eq!(age(vec![scheduler(None, false)]), 0);
        // The pass that was first tells of its own.
        let all = vec![
            scheduler(Some(5), false),
            scheduler(Some(17), false),
            scheduler(Some(30), true),
        ];
        assert_eq!(age(all), 17 * 60);
    }

    #[test]
    fn an_unknown_figure_is_left_out() {
        let line = line(
            1,
            &[("Scheduler", "a")],
            &[
                ("Errors", "Count", Some(2)),
                ("SecondsSinceHeartbeat", "Seconds", None),
            ],
        );
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 1,
                    "CloudWatchMetrics": [{
                        "Namespace": "SchedulerWatchdog",
                        "Dimensions": [["Scheduler"]],
                        "Metrics": [{"Name": "Errors", "Unit": "Count"}],
                    }],
                },
                "Scheduler": "a",
                "Errors": 2,
            })
        );
    }
}
