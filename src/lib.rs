//! A watchdog for application schedulers.

pub mod cause;
pub mod check;
pub mod condition;
pub mod config;
pub mod cron;
pub mod history;
pub mod line;
pub mod local;
pub mod message;
pub mod pass;
pub mod plan;
pub mod replay;
pub mod report;
pub mod snapshot;
pub mod state;
pub mod world;
