//! A watchdog for application schedulers.

pub mod aws;
pub mod cause;
pub mod check;
pub mod condition;
pub mod config;
pub mod cron;
pub mod decide;
pub mod history;
pub mod incident;
pub mod judge;
pub mod lambda;
pub mod line;
pub mod local;
pub mod message;
pub mod metrics;
pub mod pass;
pub mod plan;
pub mod remedy;
pub mod replay;
pub mod report;
pub mod snapshot;
pub mod state;
pub mod world;
