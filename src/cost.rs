//! What a month of watching costs, estimated from how many schedulers there are and how much they log.
//! Prices are data: src/cost/prices.toml.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Config, Limits};
use crate::data::data;
use crate::table::Table;

/// What is watched, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// How many schedulers.
    pub schedulers: u32,
    /// Queries that a pass makes.
    pub queries: u32,
    /// Gigabytes (10⁹ bytes) a month that these queries scan if each byte is scanned once by each query
    /// that reads its log group.
    pub gigabytes: f64,
    /// From one pass to the next.
    pub every: SignedDuration,
    /// How long a query takes, in seconds.
    pub query_seconds: f64,
    /// Queries that begin in a second.
    pub queries_per_second: u32,
    /// The function's memory in MB.
    pub memory: u32,
    /// Whether each scheduler has metrics of its own.
    pub scheduler_metrics: bool,
}

/// The days of a month, as far as costs go.
const DAYS: f64 = 30.0;

/// How far two windows overlap, where lines come within a minute.
const OVERLAP: SignedDuration = SignedDuration::from_mins(2);

/// A state's size in KB where a scheduler has a few jobs; measured by benches/fleet.rs, rounded up.
const STATE_KB: f64 = 4.0;

/// A scheduler's line of metrics in the function's own log, and what else a pass prints, in bytes.
const METRICS_LINE: f64 = 450.0;
const OTHER_LINES: f64 = 1_500.0;

/// What a pass takes beyond its queries, in seconds: the clients, the states, the end of the last query
/// that is seen a little later.
const BEYOND_QUERIES: f64 = 0.7;

/// Metrics of a scheduler and of the function, and the alarms of the template.
const SCHEDULER_METRICS: f64 = 4.0;
const FUNCTION_METRICS: f64 = 3.0;
const ALARMS: f64 = 5.0;

impl Fleet {
    /// What a configuration watches. `gigabytes` tells how much comes into a set of log groups in a
    /// month.
    pub fn of(
        config: &Config,
        every: SignedDuration,
        memory: u32,
        gigabytes: impl Fn(&[String]) -> f64,
    ) -> Self {
        let mut sharing: BTreeMap<&[String], usize> = BTreeMap::new();
        for scheduler in &config.schedulers {
            *sharing.entry(&scheduler.log_groups).or_default() += 1;
        }
        let queries = |many: &usize| many.div_ceil(Limits::SHARE_A_QUERY);
        Self {
            schedulers: number(config.schedulers.len()),
            queries: number(sharing.values().map(queries).sum()),
            gigabytes: (sharing.iter())
                .map(|(groups, many)| gigabytes(groups) * f64::from(number(queries(many))))
                .sum(),
            every,
            query_seconds: 2.0,
            queries_per_second: config.limits.start_queries_per_second,
            memory,
            scheduler_metrics: config.scheduler_metrics,
        }
    }

    /// So many schedulers, each with a log group of its own and so many gigabytes a month in it.
    pub fn typical(schedulers: u32, gigabytes: f64) -> Self {
        Self {
            schedulers,
            queries: schedulers,
            gigabytes: f64::from(schedulers) * gigabytes,
            every: SignedDuration::from_mins(5),
            query_seconds: 2.0,
            queries_per_second: Limits::for_schedulers(schedulers as usize)
                .start_queries_per_second,
            memory: 256,
            scheduler_metrics: true,
        }
    }

    /// How long a pass takes, in seconds.
    pub fn pass_seconds(&self) -> f64 {
        let begins = f64::from(self.queries.saturating_sub(1)) / f64::from(self.queries_per_second);
        begins + self.query_seconds + BEYOND_QUERIES
    }

    fn passes(&self) -> f64 {
        DAYS * 24.0 * 3_600.0 / self.every.as_secs_f64()
    }

    /// What it costs.
    pub fn month(&self) -> Month {
        let prices = &*PRICES;
        let (passes, schedulers) = (self.passes(), f64::from(self.schedulers));
        let looks = passes * schedulers;
        let seconds = passes * self.pass_seconds();
        let lambda = seconds * f64::from(self.memory) / 1_024.0 * prices.lambda.gigabyte_second
            + passes / 1e6 * prices.lambda.million_requests;
        let factor = (self.every + OVERLAP).as_secs_f64() / self.every.as_secs_f64();
        let scanned = self.gigabytes * factor;
        let reads = looks * (STATE_KB / 4.0).ceil();
        let writes = looks * STATE_KB.ceil();
        let dynamodb =
            (reads * prices.dynamodb.million_reads + writes * prices.dynamodb.million_writes) / 1e6;
        let by_scheduler = if self.scheduler_metrics {
            schedulers
        } else {
            0.0
        };
        let metrics = SCHEDULER_METRICS * by_scheduler + FUNCTION_METRICS;
        let own_log = passes * (METRICS_LINE * by_scheduler + OTHER_LINES) / 1e9;
        let item = |what, of, dollars| Item { what, of, dollars };
        Month {
            items: vec![
                item(
                    "Lambda",
                    format!("{passes:.0} passes of {:.1} s", self.pass_seconds()),
                    lambda,
                ),
                item(
                    "Logs Insights",
                    format!("{scanned:.1} GB scanned, {factor:.1} times what comes"),
                    scanned * prices.logs.scanned_gigabyte,
                ),
                item(
                    "DynamoDB",
                    format!("{looks:.0} states read and written"),
                    dynamodb,
                ),
                item(
                    "metrics",
                    format!("{metrics:.0}"),
                    prices.metrics.of(metrics),
                ),
                item(
                    "alarms",
                    format!("{ALARMS:.0}"),
                    ALARMS * prices.metrics.alarm,
                ),
                item(
                    "the function's own log",
                    format!("{own_log:.2} GB"),
                    own_log * prices.logs.ingested_gigabyte,
                ),
                item(
                    "wake-ups",
                    format!("{passes:.0}"),
                    passes / 1e6 * prices.scheduler.million_invocations,
                ),
            ],
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A month's costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Month {
    /// One by one.
    pub items: Vec<Item>,
}

/// A part of the costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What is paid for.
    pub what: &'static str,
    /// How much of it.
    pub of: String,
    /// US dollars.
    pub dollars: f64,
}

impl Month {
    /// All together, in US dollars.
    pub fn dollars(&self) -> f64 {
        self.items.iter().map(|item| item.dollars).sum()
    }

    /// For people.
    pub fn text(&self, fleet: &Fleet) -> String {
        let mut table = Table::new(["WHAT", "A MONTH", "US$"]);
        for Item { what, of, dollars } in &self.items {
            table.row([(*what).to_owned(), of.clone(), format!("{dollars:.2}")]);
        }
        let all = format!("{:.2}", self.dollars());
        table.row(["all".to_owned(), String::new(), all]);
        let mut text = format!("{}\n", table.print());
        let _ = writeln!(
            text,
            "An estimate: schedulers: {}, queries a pass: {}, GB of log a month: {:.2}; list prices without\n\
             free tiers, {}, {}.",
            fleet.schedulers, fleet.queries, fleet.gigabytes, PRICES.region, PRICES.date
        );
        text
    }

    /// For machines.
    pub fn json(&self, fleet: &Fleet) -> Value {
        let items: Vec<Value> = (self.items.iter())
            .map(|item| json!({ "what": item.what, "of": item.of, "dollars": cents(item.dollars) }))
            .collect();
        json!({
            "estimate": true,
            "schedulers": fleet.schedulers,
            "log_gigabytes": fleet.gigabytes,
            "items": items,
            "dollars": cents(self.dollars()),
            "prices": { "region": PRICES.region, "date": PRICES.date.to_string() },
        })
    }
}

/// Rounded: nothing here is known any better.
fn cents(dollars: f64) -> f64 {
    (dollars * 100.0).round() / 100.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    region: String,
    date: jiff::civil::Date,
    lambda: Lambda,
    logs: Logs,
    metrics: Metrics,
    dynamodb: DynamoDb,
    scheduler: Scheduler,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lambda {
    gigabyte_second: f64,
    million_requests: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logs {
    scanned_gigabyte: f64,
    ingested_gigabyte: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metrics {
    tiers: Vec<(u32, f64)>,
    each: f64,
    alarm: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DynamoDb {
    million_reads: f64,
    million_writes: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scheduler {
    million_invocations: f64,
}

impl Metrics {
    fn of(&self, count: f64) -> f64 {
        let (mut dollars, mut below) = (0.0, 0.0);
        for (up_to, each) in &self.tiers {
            let up_to = f64::from(*up_to);
            dollars += (count.min(up_to) - below).max(0.0) * each;
            below = up_to;
        }
        dollars + (count - below).max(0.0) * self.each
    }
}

static PRICES: LazyLock<Prices> = LazyLock::new(|| data!("cost/prices"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_cheaper_in_large_numbers() {
        let of = |count| PRICES.metrics.of(count);
        assert_eq!(
            (of(0.0), of(7.0).round(), of(10_000.0).round()),
            (0.0, 2.0, 3_000.0)
        );
        assert_eq!(of(250_000.0).round(), 3_000.0 + 24_000.0);
        assert_eq!(of(1_100_000.0).round(), 27_000.0 + 37_500.0 + 2_000.0);
    }

    #[test]
    fn one_scheduler() {
        let fleet = Fleet::typical(1, 1.0);
        insta::assert_snapshot!(fleet.month().text(&fleet));
        insta::assert_json_snapshot!(fleet.month().json(&fleet));
    }

    /// The computed table of the README: 1 GB of log a month each. An account's limits allow 2,500
    /// queries within a function's time, and more need more accounts.
    #[test]
    fn from_one_scheduler_to_a_hundred_thousand() {
        const MOST_QUERIES: u32 = 2_500;
        let split = |schedulers: u32, queries: u32, scheduler_metrics| {
            let accounts = queries.div_ceil(MOST_QUERIES);
            let fleet = Fleet {
                queries: queries.div_ceil(accounts),
                scheduler_metrics,
                ..Fleet::typical(schedulers / accounts, 1.0)
            };
            let dollars = f64::from(accounts) * fleet.month().dollars();
            (accounts, fleet.pass_seconds(), dollars)
        };
        let mut lines = String::new();
        for schedulers in [1_u32, 10, 100, 1_000, 10_000, 100_000] {
            let shared = schedulers.div_ceil(u32::try_from(Limits::SHARE_A_QUERY).unwrap());
            let (accounts, seconds, dollars) = split(schedulers, schedulers, true);
            let (_, _, without) = split(schedulers, schedulers, false);
            let (few_accounts, few_seconds, _) = split(schedulers, shared, true);
            let _ = writeln!(
                lines,
                "{schedulers}: {seconds:.0} s in {accounts}; 32 share a log group: {few_seconds:.0} s in \
                 {few_accounts}; ${dollars:.2}, without metrics of each ${without:.2}",
            );
        }
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn what_is_shared_is_scanned_once() {
        let mut text = String::new();
        for n in 0..40 {
            let group = if n < 35 { "/ecs/apps" } else { "/ecs/more" };
            let _ = write!(
                text,
                "[[scheduler]]\nname = \"s{n}\"\nlog_groups = [\"{group}\"]\n"
            );
        }
        let config = Config::parse(&text, "test").unwrap();
        let fleet = Fleet::of(&config, SignedDuration::from_mins(5), 256, |groups| {
            if groups == ["/ecs/apps"] { 10.0 } else { 1.0 }
        });
        // 35 share two queries, 5 share one.
        assert_eq!(
            (fleet.schedulers, fleet.queries, fleet.gigabytes),
            (40, 3, 21.0)
        );
    }
}
