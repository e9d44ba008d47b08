//! The log, read with CloudWatch Logs Insights.
//!
//! Needs `logs:StartQuery` and `logs:GetQueryResults` on the log groups, and `logs:StopQuery`
//! on `*` (without it, a query that is given up runs on to its end).

mod gate;
mod query;
mod rows;

use std::time::Duration;

use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata;
use aws_sdk_cloudwatchlogs::types::{QueryStatus, ResultField};
use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep, timeout};

use super::obstacle::{Call, bounded};
use super::{AwsWorld, within};
use crate::config::Scheduler;
use crate::line::{self, LogEvent};
use crate::snapshot::{CallError, LogWindow, Obstacle, Probe};
pub(super) use gate::Gate;
use rows::Rows;

/// The longest wait for one query where no deadline comes first. A query over minutes of log
/// takes a second or two; one that takes a minute is queued behind others.
const LONGEST_QUERY: Duration = Duration::from_secs(60);

/// The most rows that a query returns; what AWS allows in one answer.
const MOST_ROWS: usize = 10_000;

/// The most rows of a probe. Only the newest of each stream counts, so this many streams can
/// be told apart at worst, and usually far more than a service has.
const MOST_PROBE_ROWS: usize = 1_000;

/// Rows a page. A healthy pass has fewer in all; in a flood of long lines it bounds what lies
/// in memory at once.
const PAGE: i32 = 1_000;

/// Gives up a query that is not needed any more. If that takes longer, it runs to its end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads a scheduler's own lines of a span.
pub(super) async fn log(
    world: &AwsWorld<'_>,
    scheduler: &Scheduler,
    from: Timestamp,
    until: Timestamp,
) -> Result<LogWindow, CallError> {
    let prefix = &scheduler.log_stream_prefix;
    let coarse = scheduler.preset.coarse_filter();
    let text = query::log(prefix, coarse.as_deref(), MOST_ROWS);
    let query = Query {
        world,
        groups: &scheduler.log_groups,
        text: &text,
        from,
        until,
        limit: MOST_ROWS,
    };
    let answer = query.run(prefix).await?;
    let events = &answer.rows.events;
    Ok(LogWindow {
        from,
        until,
        lines: line::read(&scheduler.preset, events),
        truncated: answer.truncated,
        scanned_bytes: answer.scanned_bytes,
        lag: lag(events),
    })
}

/// The newest lines of any kind in a span, per stream. A stream that has none among the newest
/// [`MOST_PROBE_ROWS`] lines of all is left out.
pub(super) async fn probe(
    world: &AwsWorld<'_>,
    scheduler: &Scheduler,
    from: Timestamp,
    until: Timestamp,
) -> Result<Probe, CallError> {
    let prefix = &scheduler.log_stream_prefix;
    let text = query::probe(prefix, MOST_PROBE_ROWS);
    let query = Query {
        world,
        groups: &scheduler.log_groups,
        text: &text,
        from,
        until,
        limit: MOST_PROBE_ROWS,
    };
    let answer = query.run(prefix).await?;
    // In ascending order the newest of each stream comes last, and stays.
    let newest = (answer.rows.events.into_iter())
        .map(|event| (event.stream.to_string(), event.at))
        .collect();
    Ok(Probe { newest })
}

/// Rows as fields with values → events in order, and how many rows were unreadable. What a query
/// does with its answer, for those who try it on answers that no backend gives.
#[doc(hidden)]
pub fn events_of_rows(
    prefix: &str,
    rows: impl IntoIterator<Item = Vec<(String, String)>>,
) -> (Vec<LogEvent>, usize) {
    let field = |(name, value)| (ResultField::builder().field(name).value(value)).build();
    let rows = rows.into_iter();
    let mut read = Rows::new(prefix);
    read.take(
        rows.map(|row| row.into_iter().map(field).collect())
            .collect(),
    );
    read.put_in_order();
    (read.events, read.unreadable)
}

/// The 99th percentile of the delay from a line's writing to its arrival.
fn lag(events: &[LogEvent]) -> Option<SignedDuration> {
    let mut lags: Vec<SignedDuration> = (events.iter())
        .filter_map(|event| Some(event.ingested?.duration_since(event.at)))
        // Clocks differ by a little; nothing arrives before it was written.
        .map(|lag| lag.max(SignedDuration::ZERO))
        .collect();
    lags.sort_unstable();
    let rank = (lags.len() * 99).div_ceil(100);
    lags.get(rank.checked_sub(1)?).copied()
}

/// One query.
struct Query<'a> {
    world: &'a AwsWorld<'a>,
    groups: &'a [String],
    text: &'a str,
    from: Timestamp,
    until: Timestamp,
    limit: usize,
}

/// What a query returned.
#[derive(Debug, Default)]
struct Answer {
    rows: Rows,
    truncated: bool,
    scanned_bytes: Option<u64>,
}

/// A query that gave no answer.
struct Unanswered {
    error: CallError,
    /// It has to be stopped.
    runs_on: bool,
}

impl Query<'_> {
    /// Runs the query to its end, or gives it up. Rows of other streams than those with the
    /// prefix are dropped, whatever the backend makes of the filter.
    async fn run(&self, prefix: &str) -> Result<Answer, CallError> {
        let longest = Instant::now() + LONGEST_QUERY;
        let end = self.world.looks_end.map_or(longest, |end| end.min(longest));
        let gate = self.world.gate();
        let _place = within(Some(end), "the log query's wait for its turn", gate.place()).await?;
        let turn = async {
            gate.start_turn().await;
            self.start().await
        };
        let Some(id) = within(Some(end), "logs:StartQuery", turn).await? else {
            return Ok(Answer::default());
        };
        match self.collect(&id, prefix, end).await {
            Ok(answer) => {
                if answer.rows.unreadable > 0 {
                    tracing::warn!(
                        rows = answer.rows.unreadable,
                        groups = ?self.groups,
                        "rows of Logs Insights without a readable time or a stream were left out"
                    );
                }
                Ok(answer)
            }
            Err(unanswered) => {
                if unanswered.runs_on {
                    self.stop(&id).await;
                }
                Err(unanswered.error)
            }
        }
    }

    /// Starts the query. None if the log group is younger than the span: it is empty.
    async fn start(&self) -> Result<Option<String>, CallError> {
        let (start, end) = seconds(self.from, self.until);
        let mut start = (self.world.aws.logs().start_query())
            .query_string(self.text)
            .start_time(start)
            .end_time(end);
        let groups = self.groups.iter().cloned();
        // ARNs fit the one parameter only, and names fit both.
        if self.groups.iter().any(|group| is_arn(group)) {
            let groups = groups.map(|group| group.trim_end_matches(":*").to_owned());
            start = start.set_log_group_identifiers(Some(groups.collect()));
        } else {
            start = start.set_log_group_names(Some(groups.collect()));
        }
        match start.send().await {
            Ok(answer) => match answer.query_id {
                Some(id) => Ok(Some(id)),
                None => Err(self.failed(Obstacle::Failed, "was accepted without an id")),
            },
            Err(error) if is_before_the_group(error.code(), error.message()) => Ok(None),
            Err(error) => {
                let mut thing = named(self.groups, error.message().unwrap_or_default());
                if self.groups.len() > 1 && thing.starts_with("log groups") {
                    // AWS complains of one, and did not say which.
                    thing.insert_str(0, "one of the ");
                }
                Err(self.call("logs:StartQuery", &thing).error(&error))
            }
        }
    }

    /// Polls until the query has ended, and takes its rows.
    async fn collect(&self, id: &str, prefix: &str, end: Instant) -> Result<Answer, Unanswered> {
        let mut answer = Answer {
            rows: Rows::new(prefix),
            ..Answer::default()
        };
        // From 0.15 to 2 s, jitter included, which doubles a wait at most: most queries are
        // done within a second, and a slow one is not worth ten calls a second.
        let mut waits = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(150))
            .with_factor(1.5)
            .with_max_delay(Duration::from_secs(1))
            .without_max_times()
            .with_jitter()
            .build();
        let mut page = None;
        // Why polls fail at present; it explains why the query is given up.
        let mut fault = None;
        loop {
            if page.is_none() {
                let wait = waits.next().unwrap_or(Duration::from_secs(1));
                sleep(wait.min(end.saturating_duration_since(Instant::now()))).await;
            }
            let polled = within(Some(end), "the log query", self.poll(id, page.clone())).await;
            let polled = match polled {
                Ok(polled) => {
                    fault = None;
                    polled
                }
                Err(error) if end <= Instant::now() => {
                    return Err(Unanswered {
                        error: fault.unwrap_or(error),
                        runs_on: true,
                    });
                }
                // The query runs on; the next poll may well be answered.
                Err(error) if error.retry_helps() => {
                    fault = Some(error);
                    continue;
                }
                Err(error) => {
                    return Err(Unanswered {
                        error,
                        runs_on: true,
                    });
                }
            };
            match polled.status {
                Status::Going => continue,
                Status::Complete => {}
                Status::Ended(error) => {
                    return Err(Unanswered {
                        error,
                        runs_on: false,
                    });
                }
            }
            answer.scanned_bytes = polled.scanned_bytes.or(answer.scanned_bytes);
            let fits = answer.rows.take(polled.rows);
            answer.truncated = !fits || answer.rows.seen >= self.limit;
            page = polled.next;
            if answer.truncated || page.is_none() {
                answer.rows.put_in_order();
                return Ok(answer);
            }
        }
    }

    async fn poll(&self, id: &str, page: Option<String>) -> Result<Polled, CallError> {
        self.world.gate().poll_turn().await;
        let answer = (self.world.aws.logs().get_query_results())
            .query_id(id)
            .max_items(PAGE)
            .set_next_token(page)
            .send()
            .await
            .map_err(|error| match error.code() {
                // Not the group: the query itself.
                Some("ResourceNotFoundException") => {
                    self.failed(Obstacle::Failed, "is not known to AWS any more")
                }
                _ => {
                    let thing = named(self.groups, "");
                    self.call("logs:GetQueryResults", &thing).error(&error)
                }
            })?;
        let status = match &answer.status {
            Some(QueryStatus::Complete) => Status::Complete,
            Some(QueryStatus::Scheduled | QueryStatus::Running) => Status::Going,
            Some(QueryStatus::Timeout) => {
                Status::Ended(self.failed(Obstacle::TimedOut, "timed out"))
            }
            Some(QueryStatus::Cancelled) => {
                Status::Ended(self.failed(Obstacle::Failed, "was cancelled"))
            }
            Some(QueryStatus::Failed) => Status::Ended(self.failed(Obstacle::Failed, "failed")),
            other => {
                let status = other.as_ref().map_or("none", QueryStatus::as_str);
                let what = format!("ended with the status {status}");
                Status::Ended(self.failed(Obstacle::Failed, &what))
            }
        };
        let scanned = answer.statistics.as_ref().map(|s| s.bytes_scanned());
        Ok(Polled {
            status,
            rows: answer.results.unwrap_or_default(),
            next: answer.next_token,
            scanned_bytes: scanned.and_then(whole),
        })
    }

    async fn stop(&self, id: &str) {
        let stop = self.world.aws.logs().stop_query().query_id(id).send();
        // It costs little if the query runs on, and nothing is to be done about it.
        let _ = timeout(STOP_TIMEOUT, stop).await;
    }

    fn failed(&self, kind: Obstacle, what: &str) -> CallError {
        let detail = format!(
            "the log query on {} {what}: the next pass tries again",
            named(self.groups, "")
        );
        CallError::new(kind, bounded(&detail))
    }

    fn call<'a>(&'a self, action: &'a str, thing: &'a str) -> Call<'a> {
        Call {
            action,
            thing,
            remedy: "check `log_groups`",
            region: self.world.aws.region(),
        }
    }
}

/// One answer to GetQueryResults.
struct Polled {
    status: Status,
    rows: Vec<Vec<ResultField>>,
    next: Option<String>,
    scanned_bytes: Option<u64>,
}

enum Status {
    /// Not done; rows are some of those that will come, and no answer.
    Going,
    Complete,
    Ended(CallError),
}

/// The span in whole seconds, both ends included: rounded outwards, so that nothing is lost.
fn seconds(from: Timestamp, until: Timestamp) -> (i64, i64) {
    let floor = |at: Timestamp| at.as_millisecond().div_euclid(1000);
    let start = floor(from);
    let end = floor(until) + i64::from(until.as_millisecond().rem_euclid(1000) > 0);
    (start, end.max(start + 1))
}

/// Bytes come as a floating-point number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and was checked to be no NaN and not negative"
)]
fn whole(bytes: f64) -> Option<u64> {
    (bytes >= 0.0).then_some(bytes as u64)
}

/// A span before the group's creation is malformed to AWS. To the watchdog it is empty.
fn is_before_the_group(code: Option<&str>, said: Option<&str>) -> bool {
    let said = said.unwrap_or_default().to_ascii_lowercase();
    code == Some("MalformedQueryException")
        && said.contains("creation time")
        && said.contains("retention")
}

fn is_arn(group: &str) -> bool {
    group.starts_with("arn:")
}

/// "log group `a`": the one that AWS's sentence names, or all of them.
fn named(groups: &[String], said: &str) -> String {
    // The longest, because one group's name can begin with another's.
    let meant = (groups.iter())
        .filter(|group| !group.is_empty() && said.contains(group.as_str()))
        .max_by_key(|group| group.len());
    match (meant, groups) {
        (Some(group), _) => format!("log group `{group}`"),
        (None, [group]) => format!("log group `{group}`"),
        (None, groups) => format!("log groups `{}`", groups.join("`, `")),
    }
}

#[cfg(test)]
mod tests;
