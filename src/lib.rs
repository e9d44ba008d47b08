//! A watchdog for application schedulers.
