//! What the Lambda function does with one event, whatever woke it.

use serde::Deserialize;
use serde_json::Value;

use crate::config::{Config, Mistakes};
use crate::metrics;
use crate::pass::{self, Report, Request};
use crate::report;
use crate::snapshot::CallError;
use crate::world::World;

/// Why an event was not answered with a report. The Lambda service counts it as an error of
/// the function, and the template's alarm on these tells people.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The event asks for something that cannot be understood. A retry does not help.
    #[error("the event is not understood: {0}")]
    Event(String),
    /// The configuration cannot be used. A retry does not help; people were told.
    #[error("the configuration cannot be used:\n{0}")]
    Configuration(Mistakes),
    /// The configuration could not be read this time; the next wake-up reads it again. Nobody is
    /// told: it may be fine.
    #[error("the configuration could not be read: {0}")]
    Unread(CallError),
}

impl Failure {
    /// Its name in the function's answer.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(_) => "EventNotUnderstood",
            Self::Configuration(_) => "Misconfigured",
            Self::Unread(_) => "ConfigurationNotRead",
        }
    }
}

/// What a direct call may ask for. Events of EventBridge ask for nothing, and mean a whole pass.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    schedulers: Vec<String>,
    dry_run: bool,
    clear_lockout: bool,
}

/// Reads what an event asks for: a scheduled event of an EventBridge rule, the input of an
/// EventBridge Scheduler schedule (any JSON object), or a direct call such as
/// `{"schedulers":["name"],"dry_run":true}`.
///
/// # Errors
/// The event is no object, or one of the known keys has a value of another kind.
pub fn request(event: &Value) -> Result<Request, Failure> {
    if !event.is_object() {
        return Err(Failure::Event("expected a JSON object".to_owned()));
    }
    let asked = Asked::deserialize(event).map_err(|error| Failure::Event(error.to_string()))?;
    if asked.clear_lockout && asked.schedulers.is_empty() {
        return Err(Failure::Event(
            "`clear_lockout` needs `schedulers` by name".to_owned(),
        ));
    }
    Ok(Request {
        schedulers: asked.schedulers,
        dry_run: asked.dry_run,
        clear_lockout: asked.clear_lockout,
    })
}

/// Answers one event: runs a pass, writes its metrics to `metric`, one line each, and returns
/// its report. `function` is the function's name, a dimension of the metrics.
///
/// # Errors
/// See [`Failure`].
pub async fn handle<W: World>(
    world: &W,
    config: Result<&Config, &Mistakes>,
    event: &Value,
    function: &str,
    metric: impl FnMut(&Value),
) -> Result<Value, Failure> {
    let request = request(event)?;
    let report = match config {
        Ok(config) => pass::run(world, config, &request).await,
        Err(mistakes) => {
            let report = pass::configuration(world, Some(mistakes)).await;
            measure(&report, function, metric);
            return Err(Failure::Configuration(mistakes.clone()));
        }
    };
    if !report.dry_run {
        measure(&report, function, metric);
    }
    Ok(report::json(&report))
}

fn measure(report: &Report, function: &str, metric: impl FnMut(&Value)) {
    metrics::lines(report, function).iter().for_each(metric);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_is_understood() {
        let rule: Value =
            serde_json::from_str(include_str!("../events/eventbridge-rule.json")).unwrap();
        assert_eq!(request(&rule).unwrap(), Request::default());
        let scheduler: Value =
            serde_json::from_str(include_str!("../events/eventbridge-scheduler.json")).unwrap();
        assert_eq!(request(&scheduler).unwrap(), Request::default());
        let direct: Value = serde_json::from_str(include_str!("../events/direct.json")).unwrap();
        assert_eq!(
            request(&direct).unwrap(),
            Request {
                schedulers: vec!["myteacher-production".to_owned()],
                dry_run: true,
                clear_lockout: false,
            }
        );
    }

    #[test]
    fn a_call_that_asks_in_another_way_is_refused() {
        for bad in [
            r#"[]"#,
            r#"{"schedulers":"one"}"#,
            r#"{"clear_lockout":true}"#,
        ] {
            assert!(
                request(&serde_json::from_str(bad).unwrap()).is_err(),
                "{bad}"
            );
        }
    }
}
