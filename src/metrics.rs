//! A pass's figures as CloudWatch metrics: lines of the embedded metric format on stdout, which
//! CloudWatch Logs turns into metrics without an API call.

use serde_json::{Value, json};

use crate::config::Shard;
use crate::pass::{Report, SchedulerReport};

/// The namespace of all metrics; the template's alarms name it, too.
pub const NAMESPACE: &str = "SchedulerWatchdog";

/// One line for each scheduler that this pass judged before any other, if these are wanted, and one
/// for the pass.
///
/// Per scheduler (dimension `Scheduler`): `SecondsSinceHeartbeat` (left out while it cannot be
/// known), `Errors`, `OpenIncidents`, `BytesScanned`. For the pass (dimension `FunctionName`):
/// `PassCompleted` (1 if everything was looked at and done, else 0), `Problems`,
/// `OldestUndeliveredMessage` (its age in seconds; 0 if no message waits). A look at schedulers that
/// somebody asked for by name completes no pass: the others may be looked at by nobody. Each metric costs: what
/// no alarm needs by scheduler is counted once.
///
/// Of several shards each has a `PassCompleted` of its own, because one that is not looked at must not
/// be hidden by the others: from the second on it has the dimension `Shard`, too.
pub fn lines(report: &Report, function: &str, by_scheduler: bool) -> Vec<Value> {
    let millis = report.at.as_millisecond();
    let mut lines: Vec<Value> = (report.schedulers.iter())
        .filter(|_| by_scheduler)
        .filter_map(|scheduler| scheduler_line(scheduler, millis))
        .collect();
    let problems = (report.schedulers.iter())
        .map(|s| s.problems.len())
        .sum::<usize>();
    let completed = (!report.by_name).then(|| i64::from(report.is_complete()));
    let completed = ("PassCompleted", "Count", completed);
    let problems = i64::try_from(problems + report.problems.len()).ok();
    let oldest = (report.undelivered_since())
        .map_or(0, |since| report.at.duration_since(since).as_secs().max(0));
    let mut pass = vec![
        ("Problems", "Count", problems),
        ("OldestUndeliveredMessage", "Seconds", Some(oldest)),
    ];
    match report.shard.map(Shard::index).filter(|index| *index > 0) {
        None => pass.insert(0, completed),
        Some(index) => {
            let shard = [("FunctionName", function), ("Shard", &index.to_string())];
            lines.push(line(millis, &shard, &[completed]));
        }
    }
    lines.push(line(millis, &[("FunctionName", function)], &pass));
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
            let lines = lines(&report, "watchdog", true);
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
    fn a_shard_completes_for_itself_and_single_schedulers_are_left_out_if_not_wanted() {
        let of = |shard, by_scheduler| {
            let report = Report {
                shard,
                schedulers: vec![SchedulerReport::default()],
                ..Report::default()
            };
            lines(&report, "watchdog", by_scheduler)
        };
        for shard in [None, Shard::new(0, 3)] {
            let lines = of(shard, true);
            assert_eq!(lines.len(), 1, "no plan, no figures: {lines:?}");
            assert_eq!(
                (&lines[0]["PassCompleted"], &lines[0]["Shard"]),
                (&json!(1), &Value::Null)
            );
        }
        let lines = of(Shard::new(2, 3), true);
        assert_eq!(lines[0]["PassCompleted"], 1);
        assert_eq!(
            lines[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"],
            json!([["FunctionName", "Shard"]])
        );
        assert_eq!(
            (&lines[1]["PassCompleted"], &lines[1]["Problems"]),
            (&Value::Null, &json!(0))
        );
    }

    #[test]
    fn a_look_at_some_schedulers_is_no_pass() {
        let report = Report {
            by_name: true,
            ..Report::default()
        };
        let lines = lines(&report, "watchdog", true);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["PassCompleted"], &lines[0]["Problems"]),
            (&Value::Null, &json!(0))
        );
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
