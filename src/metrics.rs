//! A pass's figures as CloudWatch metrics: lines of the embedded metric format on stdout, which
//! CloudWatch Logs turns into metrics without an API call.

use serde_json::{Value, json};

use crate::pass::{Report, SchedulerReport};

/// The namespace of all metrics; the template's alarms name it, too.
pub const NAMESPACE: &str = "SchedulerWatchdog";

/// One line for each scheduler that this pass judged before any other, and one for the pass.
///
/// Per scheduler (dimension `Scheduler`): `SecondsSinceHeartbeat` (left out while it cannot be
/// known), `Errors`, `OpenIncidents`, `BytesScanned`, `UndeliveredMessages`. For the pass
/// (dimension `FunctionName`): `PassCompleted` (1 if everything was looked at and done, else 0),
/// `Problems`.
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
            (
                "UndeliveredMessages",
                "Count",
                Some(i64::from(scheduler.undelivered)),
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
