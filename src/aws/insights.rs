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
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout, timeout_at};

use super::obstacle::{Call, bounded};
use super::{AwsWorld, within};
use crate::config::Scheduler;
use crate::line::{self, LogEvent};
use crate::snapshot::{CallError, LogWindow, Obstacle, Probe};
use crate::world::Look;
pub(super) use gate::Gate;
use gate::next_poll;
use rows::Rows;

/// The longest wait for one query where no deadline comes first. A query over minutes of log
/// takes a second or two; one that takes a minute is queued behind others.
const LONGEST_QUERY: Duration = Duration::from_secs(60);

/// No query is begun with less time than this left for looks: most would be given up, for nothing.
const LEAST_QUERY: Duration = Duration::from_secs(5);

/// Before a query is given up, it is asked once more.
const LAST_POLL: Duration = Duration::from_secs(1);

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

/// Reads the schedulers' own lines, each of its own span; none where its turn did not come before
/// looks have to end.
///
/// Schedulers with the same log groups share one query: it scans the same bytes for all of them. Its
/// text asks for what any of them needs, so each gets its own lines and some that it does not know,
/// which its reader leaves out as it always does. Where the answer is cut, somebody's lines are
/// missing, and each asks for itself; so they do if the query is refused or fails. The bytes that were
/// scanned for all are told once, with the first.
pub(super) async fn logs(
    world: &AwsWorld<'_>,
    looks: &[Look<'_>],
) -> Vec<Option<Result<LogWindow, CallError>>> {
    let mut in_vain = None;
    if looks.len() > 1
        && let Some(query) = shared(world, looks)
    {
        match query.run().await {
            None => return looks.iter().map(|_| None).collect(),
            Some(Ok(answer)) if !answer.truncated => {
                let own = |(index, look)| {
                    let events = own_events(look, &answer.rows.events);
                    let scanned = answer.scanned_bytes.filter(|_| index == 0).or(Some(0));
                    Some(Ok(window(look, &events, scanned)))
                };
                return looks.iter().enumerate().map(own).collect();
            }
            Some(Err(error)) if !matches!(error.kind, Obstacle::Refused | Obstacle::Failed) => {
                return looks.iter().map(|_| Some(Err(error.clone()))).collect();
            }
            Some(answer) => {
                in_vain = answer.ok().and_then(|answer| answer.scanned_bytes);
                tracing::info!(
                    groups = ?query.groups,
                    schedulers = looks.len(),
                    "a query for all of them gave no whole answer; each is asked for alone"
                );
            }
        }
    }
    let mut seen = join_all(looks.iter().map(|look| log(world, look))).await;
    if let Some(bytes) = in_vain
        && let Some(window) = seen.iter_mut().flatten().flatten().next()
    {
        *window.scanned_bytes.get_or_insert(0) += bytes;
    }
    seen
}

/// Reads one scheduler's own lines.
async fn log(world: &AwsWorld<'_>, look: &Look<'_>) -> Option<Result<LogWindow, CallError>> {
    let prefix = look.scheduler.log_stream_prefix.as_str();
    let coarse = look.scheduler.preset.coarse_filter();
    let query = Query {
        world,
        groups: &look.scheduler.log_groups,
        text: query::log(prefix, coarse, MOST_ROWS),
        prefixes: vec![prefix],
        from: look.from,
        until: look.until,
        limit: MOST_ROWS,
    };
    Some(query.run().await?.map(|answer| LogWindow {
        truncated: answer.truncated,
        ..window(look, &answer.rows.events, answer.scanned_bytes)
    }))
}

/// One query for all of them, if its text is not too long.
fn shared<'a>(world: &'a AwsWorld<'a>, looks: &'a [Look<'a>]) -> Option<Query<'a>> {
    let prefixes: Vec<&str> = (looks.iter())
        .map(|look| look.scheduler.log_stream_prefix.as_str())
        .collect();
    let coarse: Vec<Option<&str>> = (looks.iter())
        .map(|look| look.scheduler.preset.coarse_filter())
        .collect();
    Some(Query {
        world,
        groups: &looks.first()?.scheduler.log_groups,
        text: query::shared(&prefixes, &coarse, MOST_ROWS)?,
        prefixes,
        from: looks.iter().map(|look| look.from).min()?,
        until: looks.iter().map(|look| look.until).max()?,
        limit: MOST_ROWS,
    })
}

/// What a query for this look alone would have returned, and lines that its filter leaves out.
fn own_events(look: &Look<'_>, events: &[LogEvent]) -> Vec<LogEvent> {
    let (start, end) = seconds(look.from, look.until);
    let prefix = &look.scheduler.log_stream_prefix;
    let is_own = |event: &&LogEvent| {
        let at = event.at.as_millisecond();
        (start * 1000..=end * 1000).contains(&at) && event.stream.starts_with(prefix)
    };
    events.iter().filter(is_own).cloned().collect()
}

fn window(look: &Look<'_>, events: &[LogEvent], scanned_bytes: Option<u64>) -> LogWindow {
    LogWindow {
        from: look.from,
        until: look.until,
        lines: line::read(&look.scheduler.preset, events),
        truncated: false,
        scanned_bytes,
        lag: lag(events),
    }
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
    let query = Query {
        world,
        groups: &scheduler.log_groups,
        text: query::probe(prefix, MOST_PROBE_ROWS),
        prefixes: vec![prefix],
        from,
        until,
        limit: MOST_PROBE_ROWS,
    };
    let answer = (query.run().await).unwrap_or_else(|| Err(query.without_a_turn()))?;
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
    let mut read = Rows::new(&[prefix]);
    read.take(
        rows.map(|row| row.into_iter().map(field).collect())
            .collect(),
    );
    read.put_in_order();
    (read.events, read.unreadable)
}

/// The bytes that came into log groups in a span, as AWS bills them.
pub(super) async fn volume(
    world: &AwsWorld<'_>,
    groups: &[String],
    from: Timestamp,
    until: Timestamp,
) -> Result<u64, CallError> {
    let query = Query {
        world,
        groups,
        text: query::volume(),
        prefixes: vec![""],
        from,
        until,
        limit: 1,
    };
    let answer = (query.run().await).unwrap_or_else(|| Err(query.without_a_turn()))?;
    answer
        .scanned_bytes
        .ok_or_else(|| query.failed(Obstacle::Failed, "does not tell how many bytes it scanned"))
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
    text: String,
    /// Rows of streams that begin with none of these are dropped, whatever the backend makes of the
    /// filter.
    prefixes: Vec<&'a str>,
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
    /// Runs the query to its end, or gives it up; none if its turn does not come before looks have
    /// to end.
    async fn run(&self) -> Option<Result<Answer, CallError>> {
        let gate = self.world.gate();
        let turn = async {
            let place = gate.place().await?;
            let now = Instant::now();
            gate.starts.turn(now, now).await;
            Ok(place)
        };
        let turn = match self.world.looks_end {
            Some(end) => {
                let latest = end.checked_sub(LEAST_QUERY)?;
                // What is late already is not even begun.
                if latest <= Instant::now() {
                    return None;
                }
                timeout_at(latest, turn).await.ok()?
            }
            None => turn.await,
        };
        Some(match turn {
            Ok(_place) => self.take_its_turn().await,
            Err(error) => Err(error),
        })
    }

    async fn take_its_turn(&self) -> Result<Answer, CallError> {
        let longest = Instant::now() + LONGEST_QUERY;
        let end = self.world.looks_end.map_or(longest, |end| end.min(longest));
        let Some(id) = within(Some(end), "logs:StartQuery", self.start()).await? else {
            return Ok(Answer::default());
        };
        match self.collect(&id, end).await {
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
            .query_string(&self.text)
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
                let error = self.call("logs:StartQuery", &thing).error(&error);
                if error.kind == Obstacle::Throttled {
                    self.world.gate().starts.hold();
                }
                Err(error)
            }
        }
    }

    /// Polls until the query has ended, and takes its rows.
    async fn collect(&self, id: &str, end: Instant) -> Result<Answer, Unanswered> {
        let mut answer = Answer {
            rows: Rows::new(&self.prefixes),
            ..Answer::default()
        };
        let began = Instant::now();
        let mut asked = None;
        let mut page = None;
        // Why polls fail at present; it explains why the query is given up.
        let mut fault = None;
        loop {
            let now = Instant::now();
            let due = match page {
                Some(_) => now,
                None => {
                    let due = began + next_poll(asked, self.world.gate().is_calm());
                    let last = end.checked_sub(LAST_POLL).filter(|last| *last > now);
                    last.map_or(due, |last| due.min(last))
                }
            };
            let poll = async {
                self.world.gate().polls.turn(began, due).await;
                asked = Some(began.elapsed());
                self.poll(id, page.clone()).await
            };
            let polled = within(Some(end), "the log query", poll).await;
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
                    let error = self.call("logs:GetQueryResults", &thing).error(&error);
                    if error.kind == Obstacle::Throttled {
                        self.world.gate().polls.hold();
                    }
                    error
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

    fn without_a_turn(&self) -> CallError {
        self.failed(Obstacle::TimedOut, "did not get its turn in this pass")
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
