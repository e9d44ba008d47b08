//! A watchdog for application schedulers.

pub mod line;
