//! What the Lambda function does with one event, whatever woke it.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::config::{Config, Mistakes, Shard};
use crate::decide::TestAlert;
use crate::metrics;
use crate::pass::{self, Report, Request};
use crate::report;
use crate::snapshot::{CallError, Observed};
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
    /// A test alert reaches nobody, or did not leave. A retry may help.
    #[error("the test alert failed: {0}")]
    TestAlert(String),
}

impl Failure {
    /// Its name in the function's answer.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(_) => "EventNotUnderstood",
            Self::Configuration(_) => "Misconfigured",
            Self::Unread(_) => "ConfigurationNotRead",
            Self::TestAlert(_) => "TestAlertFailed",
        }
    }
}

/// What a call may ask for. Events of an EventBridge rule ask for nothing, and mean a whole pass.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    schedulers: Vec<String>,
    dry_run: bool,
    clear_lockout: bool,
    test_alert: bool,
    schedule: Option<String>,
    timezone: Option<String>,
    shard: Option<u32>,
    of: Option<u32>,
}

impl Asked {
    fn shard(&self) -> Result<Option<Shard>, Failure> {
        let shard = match (self.shard, self.of) {
            (None, None) => return Ok(None),
            (Some(index), Some(of)) => Shard::new(index, of),
            _ => None,
        };
        let shard = shard.ok_or_else(|| {
            Failure::Event(format!(
                "`shard` and `of` go together: {{\"shard\":0,\"of\":3}} is the first of three parts, \
                 and there are {} at most",
                Shard::MOST
            ))
        })?;
        Ok(Some(shard))
    }
}

/// What an event means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A pass.
    Pass(Request),
    /// A message that shows that messages arrive.
    TestAlert(TestAlert),
}

/// Reads what an event asks for: a scheduled event of an EventBridge rule, the input of an
/// EventBridge Scheduler schedule (any JSON object), or a direct call such as
/// `{"schedulers":["name"],"dry_run":true}` or `{"test_alert":true}`. A schedule of test alerts
/// names itself, so that the alert can say when the next one comes; one of several schedules that
/// look at a part of the schedulers each says which: `{"shard":0,"of":3}`.
///
/// # Errors
/// The event is no object, or one of the known keys has a value of another kind.
pub fn wanted(event: &Value) -> Result<Wanted, Failure> {
    if !event.is_object() {
        return Err(Failure::Event("expected a JSON object".to_owned()));
    }
    let asked = Asked::deserialize(event).map_err(|error| Failure::Event(error.to_string()))?;
    if asked.clear_lockout && asked.schedulers.is_empty() {
        return Err(Failure::Event(
            "`clear_lockout` needs `schedulers` by name".to_owned(),
        ));
    }
    let shard = asked.shard()?;
    Ok(match asked.test_alert {
        true => Wanted::TestAlert(TestAlert {
            schedule: asked.schedule,
            timezone: asked.timezone,
        }),
        false => Wanted::Pass(Request {
            schedulers: asked.schedulers,
            dry_run: asked.dry_run,
            clear_lockout: asked.clear_lockout,
            shard,
            ..Request::default()
        }),
    })
}

/// How many parts the schedulers are in by an event: as many passes may run at the same time.
pub fn shards(event: &Value) -> u32 {
    match wanted(event) {
        Ok(Wanted::Pass(Request {
            shard: Some(shard), ..
        })) => shard.of(),
        _ => 1,
    }
}

/// How long it is remembered that somebody is subscribed to the alerts. A process of Lambda
/// seldom lives that long.
const READERS_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What a process remembers from one event to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// When somebody was last seen to be subscribed to the alerts.
    readers_at: Cell<Option<Timestamp>>,
    /// Nobody waits for the all-clear after a wrong configuration: the one that this process has is good.
    all_clear: Cell<bool>,
}

impl Memory {
    /// Whether the subscriptions are to be counted: once, and again as long as there is nobody.
    fn asks_for_readers(&self, now: Timestamp) -> bool {
        (self.readers_at.get()).is_none_or(|at| now.duration_since(at) >= READERS_AGAIN)
    }

    fn note(&self, report: &Report) {
        if let Some(Observed::Known(readers)) = &report.readers
            && readers.confirmed > 0
        {
            self.readers_at.set(Some(report.at));
        }
        if report.all_clear {
            self.all_clear.set(true);
        }
    }
}

/// Answers one event: runs a pass, writes its metrics to `metric`, one line each, and returns
/// its report. `function` is the function's name, a dimension of the metrics.
///
/// # Errors
/// See [`Failure`].
pub async fn handle<W: World>(
    world: &W,
    config: Result<&Config, &Mistakes>,
    memory: &Memory,
    event: &Value,
    function: &str,
    metric: impl FnMut(&Value),
) -> Result<Value, Failure> {
    let wanted = wanted(event)?;
    let config = match config {
        Ok(config) => config,
        Err(mistakes) => {
            let report = pass::configuration(world, Some(mistakes)).await;
            measure(&report, function, true, metric);
            return Err(Failure::Configuration(mistakes.clone()));
        }
    };
    match wanted {
        Wanted::Pass(mut request) => {
            request.readers = memory.asks_for_readers(world.now());
            request.all_clear = !memory.all_clear.get();
            let report = pass::run(world, config, &request).await;
            memory.note(&report);
            if !report.dry_run {
                measure(&report, function, config.scheduler_metrics, metric);
            }
            Ok(report::json(&report))
        }
        Wanted::TestAlert(asked) => {
            let report = pass::test_alert(world, config, &asked).await;
            memory.note(&report);
            // Nobody may be able to hear of it: then only Lambda's own ways are left.
            if !report.is_complete() {
                return Err(Failure::TestAlert(report.problems.join("\n")));
            }
            Ok(report::json(&report))
        }
    }
}

fn measure(report: &Report, function: &str, by_scheduler: bool, metric: impl FnMut(&Value)) {
    let lines = metrics::lines(report, function, by_scheduler);
    lines.iter().for_each(metric);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Readers;

    #[test]
    fn every_kind_of_event_is_understood() {
        let wanted = |text| wanted(&serde_json::from_str(text).unwrap()).unwrap();
        let pass = Wanted::Pass(Request::default());
        assert_eq!(
            wanted(include_str!("../events/eventbridge-rule.json")),
            pass
        );
        assert_eq!(
            wanted(include_str!("../events/eventbridge-scheduler.json")),
            pass
        );
        assert_eq!(
            wanted(include_str!("../events/direct.json")),
            Wanted::Pass(Request {
                schedulers: vec!["myteacher-production".to_owned()],
                dry_run: true,
                ..Request::default()
            })
        );
        assert_eq!(
            wanted(include_str!("../events/test-alert.json")),
            Wanted::TestAlert(TestAlert {
                schedule: Some("cron(0 10 1 * ? *)".to_owned()),
                timezone: Some("Asia/Tokyo".to_owned()),
            })
        );
        assert_eq!(
            wanted(r#"{"test_alert":true}"#),
            Wanted::TestAlert(TestAlert::default())
        );
        assert_eq!(
            wanted(r#"{"shard":0,"of":3}"#),
            Wanted::Pass(Request {
                shard: Shard::new(0, 3),
                ..Request::default()
            })
        );
    }

    #[test]
    fn subscriptions_are_counted_until_there_is_one_and_then_once_a_day() {
        let memory = Memory::default();
        let now: Timestamp = "2026-11-24T04:00:00Z".parse().unwrap();
        let saw = |confirmed| Report {
            at: now,
            readers: Some(Observed::Known(Readers {
                topic: "alerts".to_owned(),
                confirmed,
                pending: 1,
            })),
            ..Report::default()
        };
        assert!(memory.asks_for_readers(now));
        memory.note(&saw(0));
        assert!(memory.asks_for_readers(now));
        memory.note(&saw(1));
        assert!(!memory.asks_for_readers(now + SignedDuration::from_hours(23)));
        assert!(memory.asks_for_readers(now + SignedDuration::from_hours(24)));
    }

    #[test]
    fn a_call_that_asks_in_another_way_is_refused() {
        for bad in [
            r#"[]"#,
            r#"{"schedulers":"one"}"#,
            r#"{"clear_lockout":true}"#,
            r#"{"test_alert":"yes"}"#,
            r#"{"shard":0}"#,
            r#"{"of":3}"#,
            r#"{"shard":3,"of":3}"#,
            r#"{"shard":-1,"of":3}"#,
            r#"{"shard":0,"of":11}"#,
        ] {
            assert!(
                wanted(&serde_json::from_str(bad).unwrap()).is_err(),
                "{bad}"
            );
        }
    }
}
