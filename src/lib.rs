//! A watchdog for application schedulers, as an AWS Lambda function and a command line.
//!
//! # The map, in reading order
//!
//! One pass over one scheduler: event → configuration → load state → collect a snapshot → decide
//! → plan → claim → act → settle → report.
//!
//! | room | what lives there |
//! |---|---|
//! | [`config`] | TOML and environment → [`config::Config`]; the only reader of the environment |
//! | [`mod@line`] | log line → [`line::Line`], by the patterns in `src/presets` |
//! | `pattern` | which of many expressions a text can match |
//! | `hash` | names as numbers that outlive a process |
//! | [`cron`], [`job`] | when a job should run, and what is its own |
//! | [`snapshot`] | what one look showed: known, or unknown for a reason |
//! | [`health`] | what an application's health endpoint says |
//! | [`state`], [`history`] | what is remembered between passes, and how a look is folded into it |
//! | [`due`] | what became of the runs that were due: answered, missed, lost |
//! | [`condition`], [`cause`] | what can be wrong, and why, with proof |
//! | [`judge`] | what a look found |
//! | [`incident`] | pending, firing, recovering, resolved; what is said when |
//! | [`silence`] | when messages and restarts are withheld |
//! | [`remedy`] | the gates before a restart, the proof after it |
//! | [`mod@decide`] | all of it in order: `(scheduler, snapshot, state, now) → (plan, state)` |
//! | [`plan`] | verdict, reason, messages and restart, as data |
//! | [`message`] | a notification → mail, chat, JSON |
//! | [`world`] | what a pass needs from outside |
//! | [`aws`], [`local`] | the two worlds: AWS; files with a real or simulated clock |
//! | [`http`] | asks servers of other people, within bounds |
//! | [`pass`] | one pass; the only file that knows the order |
//! | [`jobs`] | job tables from the application's list or from logs, and how each job stands |
//! | [`operator`] | what a person changes in the state: silences |
//! | [`cost`] | what a month costs, from the prices in `src/cost` |
//! | [`encoding`] | what is no UTF-8 |
//! | `data` | the data files of this crate, made JSON by `build.rs` |
//! | `table` | tables for people on a terminal |
//! | [`lambda`], [`metrics`], [`report`], [`check`], [`replay`] | the shells around it |
//!
//! # Invariants
//!
//! * Everything from `config` to `message` is pure: no async, no SDK, no environment, no clock.
//!   A test and `clippy.toml` keep it so.
//! * Deciding twice on unchanged input plans nothing new.
//! * An unknown signal is never healthy, never stale, and never leads to a restart.
//! * What is to be said or done stands in the store before it is; who loses the conditional
//!   write does nothing. Messages are sent at least once, restarts made at most once.
//! * The state document never exceeds [`state::MOST_BYTES`], whatever the logs hold.
//! * One scheduler's trouble never hides another's, and delays no other's looks. What does not fit
//!   into a pass comes first in the next.

pub mod aws;
pub mod cause;
pub mod check;
pub mod condition;
pub mod config;
pub mod cost;
pub mod cron;
mod data;
pub mod decide;
pub mod due;
pub mod encoding;
mod hash;
pub mod health;
pub mod history;
pub mod http;
pub mod incident;
pub mod job;
pub mod jobs;
pub mod judge;
pub mod lambda;
pub mod line;
pub mod local;
pub mod message;
pub mod metrics;
pub mod operator;
pub mod pass;
mod pattern;
pub mod plan;
pub mod remedy;
pub mod replay;
pub mod report;
pub mod silence;
pub mod snapshot;
pub mod state;
mod table;
pub mod world;
