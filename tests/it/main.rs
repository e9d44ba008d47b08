//! All integration tests in one binary: one build, one start.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "helpers of tests fail as tests do"
)]

mod absence;
mod aws;
mod calendar;
mod cause;
mod cli;
mod config;
mod confusion;
mod decide;
mod due;
mod e2e;
mod edges;
mod examples;
mod faulty;
mod fleet;
mod found;
mod health;
mod held;
mod history;
mod hostile;
mod html;
mod jobs;
mod life;
mod limits;
mod line;
mod message;
mod month;
mod pass;
mod redaction;
mod replay;
mod restart;
mod secrets;
mod server;
mod silent;
mod single;
mod stage;
mod tasks;
mod tidy;
mod upgrades;
