//! A stand-in for AWS that enforces the limits which AWS publishes for Logs Insights, with a log for
//! as many schedulers as are wanted. It speaks the protocols of CloudWatch Logs, DynamoDB and SNS as
//! far as a pass needs them.
//!
//! [`Account`] is the whole of it, and knows no clock: the time since it began is an argument. Tests
//! ask it on tokio's paused clock, benches/fleet.rs puts an HTTP server with a real one before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use regex::Regex;
use serde_json::{Value, json};

/// What AWS allows an account in a region:
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html>.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    pub starts_per_second: f64,
    pub polls_per_second: f64,
    pub running: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            starts_per_second: 10.0,
            polls_per_second: 10.0,
            running: 100,
        }
    }
}

/// Rows that one query returns, at most.
const MOST_ROWS: usize = 10_000;

/// Other lines in the same streams, which no query matches and every query scans: bytes a minute.
const OTHER_BYTES: u64 = 4_000;

/// An AWS account.
pub struct Account {
    takes: Duration,
    /// Queries that take another time, by a log group of theirs.
    pub slow: BTreeMap<String, Duration>,
    /// Schedulers whose state is never answered for.
    pub lost: BTreeSet<String>,
    /// Lines a minute.
    pub lines: usize,
    running: usize,
    starts: Bucket,
    polls: Bucket,
    /// The streams of each log group.
    groups: HashMap<String, Vec<String>>,
    queries: HashMap<String, Query>,
    items: HashMap<String, Value>,
    /// What was asked for, in order.
    pub calls: Vec<Call>,
}

/// A call that came.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub at: Duration,
    pub action: String,
    /// The log groups, the query's id, or the item's key.
    pub of: String,
    /// It was refused because there were too many.
    pub throttled: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

/// Tokens that come back at a rate; as many as a second brings can be saved.
struct Bucket {
    rate: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    fn new(rate: f64) -> Self {
        Self {
            rate,
            tokens: rate,
            at: Duration::ZERO,
        }
    }

    fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * self.rate).min(self.rate);
        self.at = now;
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

struct Query {
    groups: Vec<String>,
    from: i64,
    until: i64,
    text: String,
    ends: Duration,
    stopped: bool,
}

impl Account {
    /// An account in which a query takes that long.
    pub fn new(quotas: Quotas, takes: Duration) -> Self {
        Self {
            takes,
            slow: BTreeMap::new(),
            lost: BTreeSet::new(),
            lines: 1,
            running: quotas.running,
            starts: Bucket::new(quotas.starts_per_second),
            polls: Bucket::new(quotas.polls_per_second),
            groups: HashMap::new(),
            queries: HashMap::new(),
            items: HashMap::new(),
            calls: Vec::new(),
        }
    }

    /// Adds a stream to a log group: that of a scheduler which prints a line each minute.
    pub fn print(&mut self, group: &str, stream: &str) {
        let streams = self.groups.entry(group.to_owned()).or_default();
        streams.push(stream.to_owned());
    }

    /// How many calls of an action came.
    pub fn count(&self, action: &str) -> usize {
        self.calls.iter().filter(|c| c.action == action).count()
    }

    /// How many calls were refused because there were too many.
    pub fn throttled(&self) -> usize {
        self.calls.iter().filter(|call| call.throttled).count()
    }

    /// How many bytes the states have that were written, all together.
    pub fn state_bytes(&self) -> usize {
        let states = self.items.values().map(|item| &item["state"]["S"]);
        states.filter_map(Value::as_str).map(str::len).sum()
    }

    /// Answers a call; none if it is never answered.
    pub fn answer(&mut self, now: Duration, target: Option<&str>, body: &str) -> Option<Reply> {
        // SNS alone names its action in a form.
        let action = match target {
            Some(target) => target.rsplit('.').next().unwrap_or_default().to_owned(),
            None => (body.split('&'))
                .find_map(|pair| pair.strip_prefix("Action="))
                .unwrap_or_default()
                .to_owned(),
        };
        let asked: Value = serde_json::from_str(body).unwrap_or_default();
        let (of, answer) = match action.as_str() {
            "StartQuery" => (groups_of(&asked).join(","), self.start(now, &asked)),
            "GetQueryResults" => (text(&asked, "queryId"), self.results(now, &asked)),
            "StopQuery" => (text(&asked, "queryId"), self.stop(&asked)),
            "GetItem" => {
                let key = text(&asked["Key"]["scheduler"], "S");
                if self.lost.contains(&key) {
                    self.note(now, action, key, false);
                    return None;
                }
                let item = self.items.get(&key);
                let found = item.map_or_else(|| json!({}), |item| json!({ "Item": item }));
                (key, Ok(found))
            }
            "PutItem" => (
                text(&asked["Item"]["scheduler"], "S"),
                self.put(asked["Item"].clone(), &asked),
            ),
            "Publish" => {
                let id = "<MessageId>m</MessageId>";
                let body = format!(
                    "<PublishResponse><PublishResult>{id}</PublishResult></PublishResponse>"
                );
                self.note(now, action, String::new(), false);
                return Some(Reply { status: 200, body });
            }
            other => (
                String::new(),
                Err(("UnknownOperationException", other.to_owned())),
            ),
        };
        let throttled = matches!(&answer, Err((code, _)) if code.starts_with("Throttling") || code.starts_with("Limit"));
        self.note(now, action, of, throttled);
        Some(match answer {
            Ok(body) => Reply {
                status: 200,
                body: body.to_string(),
            },
            Err((code, message)) => Reply {
                status: 400,
                body: json!({ "__type": code, "message": message }).to_string(),
            },
        })
    }

    fn note(&mut self, at: Duration, action: String, of: String, throttled: bool) {
        self.calls.push(Call {
            at,
            action,
            of,
            throttled,
        });
    }

    fn start(&mut self, now: Duration, asked: &Value) -> Answer {
        if !self.starts.take(now) {
            return Err(("ThrottlingException", "Rate exceeded".to_owned()));
        }
        let running = (self.queries.values()).filter(|query| !query.stopped && query.ends > now);
        if running.count() >= self.running {
            return Err(("LimitExceededException", "too many queries".to_owned()));
        }
        let text = text(asked, "queryString");
        let characters = text.chars().count();
        if characters > 10_000 {
            return Err((
                "MalformedQueryException",
                format!("{characters} characters"),
            ));
        }
        let groups = groups_of(asked);
        if let Some(unknown) = groups.iter().find(|g| !self.groups.contains_key(*g)) {
            let message = format!("Log group '{unknown}' does not exist.");
            return Err(("ResourceNotFoundException", message));
        }
        let slow = groups.iter().filter_map(|group| self.slow.get(group)).max();
        let id = format!("query-{}", self.queries.len());
        let query = Query {
            from: asked["startTime"].as_i64().unwrap_or_default(),
            until: asked["endTime"].as_i64().unwrap_or_default(),
            text,
            ends: now + *slow.unwrap_or(&self.takes),
            groups,
            stopped: false,
        };
        self.queries.insert(id.clone(), query);
        Ok(json!({ "queryId": id }))
    }

    fn results(&mut self, now: Duration, asked: &Value) -> Answer {
        if !self.polls.take(now) {
            return Err(("ThrottlingException", "Rate exceeded".to_owned()));
        }
        let Some(query) = self.queries.get(&text(asked, "queryId")) else {
            return Err(("ResourceNotFoundException", "no such query".to_owned()));
        };
        if query.stopped {
            return Ok(json!({ "status": "Cancelled" }));
        }
        if query.ends > now {
            return Ok(json!({ "status": "Running", "results": [] }));
        }
        let (rows, scanned) = self.read(query);
        let page = asked["maxItems"].as_u64().unwrap_or(MOST_ROWS as u64) as usize;
        let skip = text(asked, "nextToken").parse().unwrap_or(0_usize);
        let more = (skip + page < rows.len()).then(|| (skip + page).to_string());
        Ok(json!({
            "status": "Complete",
            "results": rows.into_iter().skip(skip).take(page).collect::<Vec<_>>(),
            "statistics": { "bytesScanned": scanned as f64 },
            "nextToken": more,
        }))
    }

    /// The rows of a query, newest first, and the bytes that it scanned. Of its text this stand-in
    /// obeys the filter on streams and the limit.
    fn read(&self, query: &Query) -> (Vec<Value>, u64) {
        let filter = stream_filter(&query.text);
        let mut rows: Vec<(i64, &str, String)> = Vec::new();
        let mut scanned = 0;
        for stream in query.groups.iter().flat_map(|group| &self.groups[group]) {
            let is_wanted = filter.as_ref().is_none_or(|filter| filter.is_match(stream));
            for minute in query.from.div_euclid(60)..=query.until.div_euclid(60) {
                scanned += OTHER_BYTES;
                for line in 0..self.lines {
                    let second = minute * 60 + 2 + i64::try_from(line % 50).unwrap_or(0);
                    if !(query.from..=query.until).contains(&second) {
                        continue;
                    }
                    let message = said(minute, line);
                    scanned += message.len() as u64;
                    if is_wanted {
                        rows.push((second, stream, message.to_owned()));
                    }
                }
            }
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.0));
        rows.truncate(limit(&query.text));
        let rows = rows
            .into_iter()
            .enumerate()
            .map(|(n, (second, stream, message))| {
                let at = Timestamp::from_second(second).unwrap_or_default();
                let at = at.strftime("%Y-%m-%d %H:%M:%S.000").to_string();
                let field = |name: &str, value: &str| json!({ "field": name, "value": value });
                json!([
                    field("@timestamp", &at),
                    field("@ingestionTime", &at),
                    field("@logStream", stream),
                    field("@message", &message),
                    field("@ptr", &format!("{stream}-{second}-{n}")),
                ])
            });
        (rows.collect(), scanned)
    }

    fn stop(&mut self, asked: &Value) -> Answer {
        if let Some(query) = self.queries.get_mut(&text(asked, "queryId")) {
            query.stopped = true;
        }
        Ok(json!({ "success": true }))
    }

    fn put(&mut self, item: Value, asked: &Value) -> Answer {
        let key = text(&item["scheduler"], "S");
        let stored = self.items.get(&key);
        let expected = &asked["ExpressionAttributeValues"][":version"]["N"];
        let holds = match expected.as_str() {
            None => stored.is_none(),
            Some(_) => stored.is_some_and(|stored| stored["version"]["N"] == *expected),
        };
        if !holds {
            let message = "The conditional request failed".to_owned();
            return Err(("ConditionalCheckFailedException", message));
        }
        self.items.insert(key, item);
        Ok(json!({}))
    }
}

/// An answer's body, or an error's code and message.
type Answer = Result<Value, (&'static str, String)>;

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn groups_of(asked: &Value) -> Vec<String> {
    let names = asked["logGroupNames"].as_array();
    let groups = names.or_else(|| asked["logGroupIdentifiers"].as_array());
    (groups.into_iter().flatten())
        .filter_map(|group| group.as_str().map(str::to_owned))
        .collect()
}

/// What a scheduler prints: two jobs each fifth minute, else that nothing was due.
fn said(minute: i64, line: usize) -> &'static str {
    if minute % 5 == 0 && line == 0 {
        return "  2026-11-25 00:00:00 Running ['artisan' redis:monitor] ............ 120ms DONE";
    }
    "   INFO  No scheduled commands are ready to run.  "
}

/// The expression of `filter @logStream like /…/`, if there is one.
fn stream_filter(query: &str) -> Option<Regex> {
    let (_, rest) = query.split_once("@logStream like /")?;
    let end = rest.find("/\n")?;
    Regex::new(&rest[..end].replace(r"\/", "/")).ok()
}

fn limit(query: &str) -> usize {
    let limit = query.rsplit("| limit ").next().and_then(|n| n.parse().ok());
    limit.unwrap_or(1_000).min(MOST_ROWS)
}
